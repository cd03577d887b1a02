#include "daemon/source/git_command.h"

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "daemon/source/git_spec.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

std::string SshCommand(const std::string& known_hosts_file) {
  const std::string base = "ssh -F /dev/null -o BatchMode=yes";
  if (known_hosts_file.empty())
    return absl::StrCat(base, " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null");
  return absl::StrCat(base, " -o UserKnownHostsFile=", known_hosts_file);
}

}  // namespace

absl::StatusOr<std::string> GitCommand::Run(std::vector<std::string> args) const {
  return RunWithRetry(std::move(args), false);
}

absl::StatusOr<std::string> GitCommand::RunLogged(std::vector<std::string> args) const {
  return RunWithRetry(std::move(args), true);
}

absl::StatusOr<std::string> GitCommand::RunWithRetry(std::vector<std::string> args,
                                                     bool logged) const {
  for (;;) {
    std::string said;
    absl::StatusOr<std::string> out = RunOnce(args, logged, &said);
    if (out.ok() || cancel.Cancelled()) return out;
    const size_t before = args.size();
    if (absl::StrContains(said, "--depth") || absl::StrContains(said, "shallow"))
      std::erase(args, "--depth=1");
    if (args.size() == before && args[0] == "fetch" && IsCommitSha(args.back()) &&
        (absl::StrContains(said, "not our ref") || absl::StrContains(said, "unadvertised object")))
      args.pop_back();
    if (args.size() == before) return out;
  }
}

absl::StatusOr<std::string> GitCommand::RunOnce(const std::vector<std::string>& args, bool logged,
                                                std::string* stderr_text) const {
  ProcessOptions options;
  // There is no umask attribute to spawn with; the daemon's own may be another.
  options.args = {"/bin/sh", "-c", "umask 022; exec \"$@\"",  "git",
                  "git",     "-c", "protocol.file.allow=user"};
  if (!work_tree.empty()) {
    options.args.insert(options.args.end(), {"--work-tree", work_tree});
    options.cwd = work_tree;
  }
  if (!git_dir.empty()) options.args.insert(options.args.end(), {"--git-dir", git_dir});
  options.args.insert(options.args.end(), args.begin(), args.end());

  std::vector<std::string> env = {"GIT_TERMINAL_PROMPT=0",
                                  "GIT_ASKPASS=/bin/false",
                                  "LC_ALL=C",
                                  "GIT_CONFIG_NOSYSTEM=1",
                                  "GIT_CONFIG_GLOBAL=/dev/null",
                                  "HOME=/dev/null",
                                  absl::StrCat("GIT_SSH_COMMAND=", SshCommand(known_hosts_file))};
  for (const char* name : {"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
                           "http_proxy", "https_proxy", "no_proxy", "all_proxy"}) {
    if (const char* value = std::getenv(name); value != nullptr)
      env.push_back(absl::StrCat(name, "=", value));
  }
  if (!ssh_auth_sock.empty()) env.push_back(absl::StrCat("SSH_AUTH_SOCK=", ssh_auth_sock));
  env.push_back(absl::StrCat("GIT_CONFIG_COUNT=", config.size()));
  for (size_t i = 0; i < config.size(); ++i) {
    env.push_back(absl::StrCat("GIT_CONFIG_KEY_", i, "=", config[i].first));
    env.push_back(absl::StrCat("GIT_CONFIG_VALUE_", i, "=", config[i].second));
  }
  options.env = std::move(env);

  KILN_ASSIGN_OR_RETURN(CommandOutput output, RunCommand(options, cancel));
  auto clean = [&](const std::string& text) {
    return secret_text.empty() ? text
                               : absl::StrReplaceAll(text, {{secret_text, secret_replacement}});
  };
  *stderr_text = clean(output.err);
  if (logged && log) {
    if (!output.out.empty()) log(clean(output.out));
    if (!stderr_text->empty()) log(*stderr_text);
  }
  if (!output.status.ok())
    return absl::UnknownError(absl::StrCat("git ", args[0], ": ", output.status.ToString(), ": ",
                                           absl::StripTrailingAsciiWhitespace(*stderr_text)));
  return std::move(output.out);
}

}  // namespace kiln::daemon
