#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/solve/solve.h"

namespace kiln::client {

// The flags of `kiln build CONTEXT`, as people know them from docker.
struct DockerfileFlags {
  std::string file;                 // "": CONTEXT/Dockerfile; "-": standard input
  std::optional<std::string> text;  // the Dockerfile itself, instead of a file
  std::string target, network, call, provenance, sbom, shm_size, cgroup_parent;
  std::vector<std::string> build_args, labels, platforms, contexts, add_hosts, ulimits;
  std::vector<std::string> no_cache_filter, attests;
  bool pull = false, check = false;
};

// A folder that holds a Dockerfile that is in no file of the user's; removed at the end.
class TextDockerfile {
 public:
  TextDockerfile() = default;
  ~TextDockerfile();
  TextDockerfile(const TextDockerfile&) = delete;
  TextDockerfile& operator=(const TextDockerfile&) = delete;

  absl::Status Write(absl::string_view text);
  const std::string& path() const { return path_; }

 private:
  std::string path_;  // "": none
};

// The size that --shm-size gives, in bytes: a number with k, m, g or t, of 1024, as in "1.5GiB".
// kInvalidArgument.
absl::StatusOr<int64_t> ParseByteSize(absl::string_view text);

// True when the argument of `kiln build` is a build context: a directory, or a git or web address.
bool IsBuildContext(const std::string& argument);
// True when the daemon reaches a context by ssh, which takes an agent.
bool IsSshAddress(absl::string_view context);

// Puts a Dockerfile build into `options`: frontend, its attributes (dockerfile.md 4.1),
// directories. `text_file` holds the Dockerfile with file "-". kInvalidArgument names the flag.
absl::Status FillDockerfileBuild(const std::string& context, const DockerfileFlags& flags,
                                 TextDockerfile* text_file, SolveOptions* options);

// What --call and --check asked for, from the result's metadata, in the format of the flag; and the
// exit status that goes with it: kFailedPrecondition when a check found something.
absl::Status PrintCall(const DockerfileFlags& flags, const SolveResult& result);

}  // namespace kiln::client
