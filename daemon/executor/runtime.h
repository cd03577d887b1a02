#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/executor/cgroup.h"
#include "store/base/process.h"

namespace kiln::daemon {

// Where an OCI runtime is and what it is.
struct RuntimeBinary {
  enum class Kind { kCrun, kRunc, kOther };
  std::string path;
  Kind kind = Kind::kOther;
};

// crun, else runc, on the daemon's PATH; or `configured` (a path or a name) when not empty.
// kNotFound says what was looked for.
absl::StatusOr<RuntimeBinary> FindRuntime(const std::string& configured);

// Starts OCI runtime commands. Thread-safe.
class RuntimeLauncher {
 public:
  // `root`: the runtime's state folder, the daemon's own.
  RuntimeLauncher(RuntimeBinary binary, std::string root, const CgroupLayout& layout);

  const RuntimeBinary& binary() const { return binary_; }

  // One `run` or `exec`. Descriptors are borrowed until the call returns; -1: /dev/null.
  struct Command {
    std::string bundle;    // folder of the container; the runtime's working directory
    std::string id;        // of the container
    std::string log_file;  // gets the runtime's own complaints: lines, JSON but for crun
    int stdin_fd = -1, stdout_fd = -1, stderr_fd = -1;
    std::string pid_file = {};        // gets the pid of the program, when not empty
    std::string console_socket = {};  // gets the terminal; relative to the bundle. crun only
    std::string process_file = {};    // for `exec`: the OCI process, as JSON
  };
  // `run` of the bundle, in the foreground.
  absl::StatusOr<Process> Run(const Command& command) const;
  // `exec` in a container that runs, in the foreground.
  absl::StatusOr<Process> Exec(const Command& command) const;

  // Forgets a container whose processes are gone and which the runtime could not clean up itself.
  void RemoveState(const std::string& id) const;

 private:
  absl::StatusOr<Process> Start(const Command& command, std::vector<std::string> verb) const;

  const RuntimeBinary binary_;
  const std::string root_;
  // crun refuses a machine where some controllers are v1 and some v2. It is shown one without v2.
  const std::string hide_;  // mount point to cover; empty: nothing
};

// The last complaint in a runtime's log, "" when there is none.
std::string RuntimeError(const std::string& log_file);

}  // namespace kiln::daemon
