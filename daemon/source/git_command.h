#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// Runs git with neutral configuration: no system or user files, no prompts, umask 022, messages in
// English, submodules never from the local file system. A value; not thread-safe.
struct GitCommand {
  std::string git_dir, work_tree;  // "": not given to git
  std::string known_hosts_file;    // "": host keys are not checked
  std::string ssh_auth_sock;
  // Configuration for each call, through the environment: command lines are public, tokens are not.
  std::vector<std::pair<std::string, std::string>> config;
  // Replaced in messages.
  std::string secret_text, secret_replacement;
  // Takes the output of calls that the user may want to see; may be empty.
  std::function<void(absl::string_view)> log;
  CancelToken cancel;

  // The command's output. Where a server knows no shallow clones or single commits, the same is
  // asked for without. The error carries git's own words.
  absl::StatusOr<std::string> Run(std::vector<std::string> args) const;
  // The same; output goes to `log` too.
  absl::StatusOr<std::string> RunLogged(std::vector<std::string> args) const;

 private:
  absl::StatusOr<std::string> RunOnce(const std::vector<std::string>& args, bool logged,
                                      std::string* stderr_text) const;
  absl::StatusOr<std::string> RunWithRetry(std::vector<std::string> args, bool logged) const;
};

}  // namespace kiln::daemon
