#pragma once

#include <string>

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

  // `run` of the bundle folder as container `id`; the runtime's own complaints go to `log_file` as
  // JSON lines.
  absl::StatusOr<Process> Run(const std::string& bundle, const std::string& id,
                              const std::string& log_file, int stdout_fd, int stderr_fd) const;

  // Forgets a container whose processes are gone and which the runtime could not clean up itself.
  void RemoveState(const std::string& id) const;

 private:
  const RuntimeBinary binary_;
  const std::string root_;
  // crun refuses a machine where some controllers are v1 and some v2. It is shown one without v2.
  const std::string hide_;  // mount point to cover; empty: nothing
};

// The complaint in a runtime's JSON log, "" when there is none.
std::string RuntimeError(const std::string& log_file);

}  // namespace kiln::daemon
