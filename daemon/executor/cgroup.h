#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/executor/executor.h"
#include "store/base/fd.h"

namespace kiln::daemon {

// How cgroups are mounted on this machine (cgroups(7)).
struct CgroupLayout {
  struct Hierarchy {
    std::string mount_point;
    std::vector<std::string> controllers;  // "memory"; also "name=systemd"
  };
  bool unified = false;  // v2 only; hierarchies has one entry
  std::vector<Hierarchy> hierarchies;
  std::string hybrid_v2;            // v1: where a v2 tree is mounted beside; empty: nowhere
  bool hybrid_controllers = false;  // that v2 tree has controllers of its own

  // Reads /proc/self/mountinfo. Never fails: no cgroups at all gives no hierarchies.
  static CgroupLayout Detect();
  // cgroup.procs of the cgroup that the daemon was in at detection, in some tree; or "".
  std::string own_procs_file;
  // The mount point that carries `controller`, or "".
  std::string Find(absl::string_view controller) const;
};

// Takes a wait off a step's way. Moving a process into a cgroup, as the runtime must, begins with
// an RCU grace period (8 to 20 ms), unless a move ended within about the last 10 ms: the kernel
// then still is in the mode that it waited for (percpu_rw_semaphore). This makes a move without
// effect, of the daemon into the cgroup where it is, while the step is being prepared. The
// destructor waits for its end.
class CgroupMovePrimer {
 public:
  explicit CgroupMovePrimer(const CgroupLayout& layout);
  CgroupMovePrimer(const CgroupMovePrimer&) = delete;
  CgroupMovePrimer& operator=(const CgroupMovePrimer&) = delete;
  ~CgroupMovePrimer();

 private:
  std::thread mover_;
};

// One step's place in the cgroup trees. The OCI runtime makes its own cgroup at runtime_path() and
// removes it at the end; where the counters must outlive that, this object owns a directory around
// it. The destructor kills what still runs inside and removes every directory. Not thread-safe.
class StepCgroup {
 public:
  // `parent` is relative to the mount points and may be empty. kFailedPrecondition names a limit
  // that this machine cannot apply; kUnimplemented for a systemd slice. `announce` gets path()
  // before anything is made there.
  static absl::StatusOr<StepCgroup> Create(
      const CgroupLayout& layout, absl::string_view parent, const std::string& id,
      const std::optional<LinuxResources>& resources,
      const std::function<absl::Status(const std::string& path)>& announce);
  // Takes over what a killed daemon left at `path` ("/buildkit/ID").
  static StepCgroup Adopt(const CgroupLayout& layout, std::string path);

  StepCgroup(StepCgroup&& other) noexcept;
  StepCgroup& operator=(StepCgroup&&) = delete;
  ~StepCgroup();

  // For linux.cgroupsPath.
  const std::string& runtime_path() const { return runtime_path_; }
  // What Adopt wants.
  const std::string& path() const { return path_; }

  // Whether the kernel's out-of-memory killer hit this step, which ended with `exit_code`. Exact
  // where the step's cgroup counts it; on cgroup v1 without a memory limit of its own it is told
  // from the machine's counter and the exit code of SIGKILL.
  bool OomKilled(int exit_code) const;

  // SIGKILL to everything inside.
  void Kill() const;

  // Kills, waits until nothing runs inside, removes the directories. Idempotent.
  // kDeadlineExceeded when processes stay for 10 s.
  absl::Status Remove();

 private:
  StepCgroup() = default;
  absl::Status LimitMemory(const LinuxResources& resources);

  std::vector<std::string> roots_;  // mount points; empty: nothing is owned
  bool unified_ = false;
  std::string path_, runtime_path_;
  Fd oom_events_;                  // eventfd on the v1 memory cgroup
  int64_t machine_oom_kills_ = 0;  // at creation
};

}  // namespace kiln::daemon
