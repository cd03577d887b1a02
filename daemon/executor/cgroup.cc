#include "daemon/executor/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "daemon/executor/rootfs.h"
#include "spdlog/spdlog.h"
#include "store/base/deadline.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr absl::Duration kRemoveTimeout = absl::Seconds(10);

absl::Status WriteValue(const std::string& file, absl::string_view value) {
  KILN_ASSIGN_OR_RETURN(const Fd fd, OpenFile(file, O_WRONLY));
  const ssize_t n = ::write(fd.get(), value.data(), value.size());
  if (n < 0) return ErrnoStatus(errno, absl::StrCat("write ", value, " to ", file));
  return absl::OkStatus();
}

// mkdir -p below `root`.
absl::Status MakePath(const std::string& root, absl::string_view path) {
  std::string dir = root;
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    absl::StrAppend(&dir, "/", part);
    if (::mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST)
      return ErrnoStatus(errno, absl::StrCat("make cgroup ", dir));
  }
  return absl::OkStatus();
}

std::vector<std::string> Subdirectories(const std::string& dir) {
  std::vector<std::string> out;
  DIR* stream = ::opendir(dir.c_str());
  if (stream == nullptr) return out;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..")
      out.push_back(absl::StrCat(dir, "/", name));
  }
  ::closedir(stream);
  return out;
}

// Depth of what a step can nest is its own choice: no recursion.
std::vector<std::string> TreeOf(const std::string& dir) {
  std::vector<std::string> all = {dir};
  for (size_t i = 0; i < all.size(); ++i) {
    const std::vector<std::string> below = Subdirectories(all[i]);
    all.insert(all.end(), below.begin(), below.end());
  }
  return all;
}

// Children first. True when `dir` is gone.
bool RemoveTree(const std::string& dir) {
  if (::rmdir(dir.c_str()) == 0 || errno == ENOENT) return true;
  const std::vector<std::string> all = TreeOf(dir);
  for (auto it = all.rbegin(); it != all.rend(); ++it) (void)::rmdir(it->c_str());
  return ::access(dir.c_str(), F_OK) != 0;
}

void KillTree(const std::string& dir) {
  for (const std::string& one : TreeOf(dir)) {
    const absl::StatusOr<std::string> pids = ReadFileToString(absl::StrCat(one, "/cgroup.procs"));
    if (!pids.ok()) continue;  // gone meanwhile
    for (absl::string_view line : absl::StrSplit(*pids, '\n', absl::SkipEmpty())) {
      int pid = 0;
      // 0 stands for a process outside our pid namespace; kill(0) would hit ourselves.
      if (absl::SimpleAtoi(line, &pid) && pid > 0) ::kill(pid, SIGKILL);
    }
  }
}

int64_t CounterIn(const std::string& file, absl::string_view name) {
  const absl::StatusOr<std::string> text = ReadFileToString(file);
  if (!text.ok()) return 0;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    int64_t value = 0;
    if (parts.first == name && absl::SimpleAtoi(parts.second, &value)) return value;
  }
  return 0;
}

int64_t MachineOomKills() { return CounterIn("/proc/vmstat", "oom_kill"); }

// The controllers that the asked limits need, with what to call them in an error.
std::vector<std::pair<std::string, std::string>> Needed(const LinuxResources& r) {
  std::vector<std::pair<std::string, std::string>> out;
  if (r.memory_bytes != 0 || r.memory_swap_bytes != 0) out.push_back({"memory", "memory limit"});
  if (r.cpu_shares != 0 || r.cpu_quota_us != 0 || r.cpu_period_us != 0)
    out.push_back({"cpu", "CPU limit"});
  if (!r.cpuset_cpus.empty() || !r.cpuset_mems.empty()) out.push_back({"cpuset", "cpuset"});
  return out;
}

absl::Status CheckControllers(const CgroupLayout& layout, const LinuxResources& resources) {
  for (const auto& [controller, what] : Needed(resources)) {
    if (layout.Find(controller).empty())
      return absl::FailedPreconditionError(absl::StrCat(
          "cannot apply the ", what, ": this machine has no cgroup controller ", controller));
  }
  return absl::OkStatus();
}

// "9:name=systemd:/user.slice" -> the file that lists the processes there (cgroups(7)).
std::string OwnProcsFile(const CgroupLayout& layout) {
  const std::string text = ReadFileToString("/proc/self/cgroup").value_or("");
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const std::string root =
        layout.unified ? layout.hierarchies[0].mount_point : layout.Find(fields[1]);
    if (root.empty() || (layout.unified && !fields[1].empty())) continue;
    std::string file = absl::StrCat(root, fields[2] == "/" ? "" : fields[2], "/cgroup.procs");
    if (::access(file.c_str(), W_OK) == 0) return file;
  }
  return "";
}

}  // namespace

CgroupMovePrimer::CgroupMovePrimer(const CgroupLayout& layout) {
  if (layout.own_procs_file.empty()) return;
  // Failing does no harm: the step then waits itself.
  mover_ = std::thread([file = layout.own_procs_file] { (void)WriteValue(file, "0"); });
}

CgroupMovePrimer::~CgroupMovePrimer() {
  if (mover_.joinable()) mover_.join();
}

CgroupLayout CgroupLayout::Detect() {
  CgroupLayout layout;
  const absl::StatusOr<std::string> mounts = ReadFileToString("/proc/self/mountinfo");
  if (!mounts.ok()) return layout;
  std::string v2;
  std::set<std::string> seen;
  for (absl::string_view line : absl::StrSplit(*mounts, '\n', absl::SkipEmpty())) {
    // "36 35 0:31 / MOUNTPOINT options [fields] - TYPE source superoptions" (proc(5))
    const std::vector<absl::string_view> halves = absl::StrSplit(line, " - ");
    if (halves.size() < 2) continue;
    const std::vector<absl::string_view> left = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> right = absl::StrSplit(halves[1], ' ');
    if (left.size() < 5 || right.size() < 3 || !absl::StartsWith(left[4], "/sys/fs/cgroup"))
      continue;
    const std::string mount_point(left[4]);
    if (!seen.insert(mount_point).second) continue;
    if (right[0] == "cgroup2") {
      v2 = mount_point;
    } else if (right[0] == "cgroup") {
      Hierarchy hierarchy{mount_point, {}};
      for (absl::string_view option : absl::StrSplit(right[2], ','))
        if (option != "rw" && option != "ro") hierarchy.controllers.emplace_back(option);
      layout.hierarchies.push_back(std::move(hierarchy));
    }
  }
  if (v2.empty()) {
    layout.own_procs_file = OwnProcsFile(layout);
    return layout;
  }
  const std::string controllers =
      ReadFileToString(absl::StrCat(v2, "/cgroup.controllers")).value_or("");
  const std::vector<std::string> names =
      absl::StrSplit(controllers, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  if (layout.hierarchies.empty()) {
    layout.unified = true;
    layout.hierarchies.push_back({v2, names});
  } else {
    layout.hybrid_v2 = v2;
    layout.hybrid_controllers = !names.empty();
  }
  layout.own_procs_file = OwnProcsFile(layout);
  return layout;
}

std::string CgroupLayout::Find(absl::string_view controller) const {
  for (const Hierarchy& one : hierarchies)
    for (const std::string& name : one.controllers)
      if (name == controller) return one.mount_point;
  return "";
}

StepCgroup::StepCgroup(StepCgroup&& other) noexcept
    : roots_(std::move(other.roots_)),
      unified_(other.unified_),
      path_(std::move(other.path_)),
      runtime_path_(std::move(other.runtime_path_)),
      oom_events_(std::move(other.oom_events_)),
      machine_oom_kills_(other.machine_oom_kills_) {
  other.roots_.clear();
}

StepCgroup::~StepCgroup() {
  if (absl::Status s = Remove(); !s.ok()) spdlog::warn("leaked a cgroup: {}", s.ToString());
}

absl::StatusOr<StepCgroup> StepCgroup::Create(
    const CgroupLayout& layout, absl::string_view parent, const std::string& id,
    const std::optional<LinuxResources>& resources,
    const std::function<absl::Status(const std::string&)>& announce) {
  // "SLICE:PREFIX:" and "SLICE:PREFIX:NAME", as runc's systemd driver writes them.
  if (absl::StrContains(parent, ".slice:"))
    return absl::UnimplementedError(absl::StrCat(
        "cgroup parent ", parent, ": systemd slices are not supported, give a cgroup path"));
  if (resources.has_value()) KILN_RETURN_IF_ERROR(CheckControllers(layout, *resources));
  StepCgroup group =
      Adopt(layout, absl::StrCat(CleanAbsolute(absl::StrCat("/", parent, "/buildkit")), "/", id));
  KILN_RETURN_IF_ERROR(announce(group.path_));
  const bool limits_memory = resources.has_value() && resources->memory_bytes > 0;
  if (group.unified_) {
    // Events are counted up the tree: ours sees what happened in the runtime's, after it is gone.
    KILN_RETURN_IF_ERROR(MakePath(group.roots_[0], group.path_));
    group.runtime_path_ = absl::StrCat(group.path_, "/step");
  } else if (limits_memory) {
    KILN_RETURN_IF_ERROR(group.LimitMemory(*resources));
    group.runtime_path_ = absl::StrCat(group.path_, "/step");
  }
  group.machine_oom_kills_ = MachineOomKills();
  return group;
}

StepCgroup StepCgroup::Adopt(const CgroupLayout& layout, std::string path) {
  StepCgroup group;
  for (const CgroupLayout::Hierarchy& one : layout.hierarchies)
    group.roots_.push_back(one.mount_point);
  if (!layout.hybrid_v2.empty()) group.roots_.push_back(layout.hybrid_v2);
  // The memory hierarchy goes first: LimitMemory and Kill use it.
  const std::string memory = layout.Find("memory");
  std::stable_partition(group.roots_.begin(), group.roots_.end(),
                        [&](const std::string& root) { return root == memory; });
  group.unified_ = layout.unified;
  group.runtime_path_ = path;
  group.path_ = std::move(path);
  return group;
}

// cgroup v1 counts out-of-memory kills in the very cgroup of the victim, which the runtime removes
// before anybody can look. The limit is therefore set on a directory of ours around it, whose
// notification (cgroup-v1/memory.rst, OOM control) stays readable.
absl::Status StepCgroup::LimitMemory(const LinuxResources& resources) {
  const std::string dir = absl::StrCat(roots_[0], path_);
  KILN_RETURN_IF_ERROR(MakePath(roots_[0], path_));
  KILN_RETURN_IF_ERROR(Annotate(
      WriteValue(absl::StrCat(dir, "/memory.limit_in_bytes"), absl::StrCat(resources.memory_bytes)),
      "cannot apply the memory limit"));
  if (resources.memory_swap_bytes != 0)
    KILN_RETURN_IF_ERROR(Annotate(WriteValue(absl::StrCat(dir, "/memory.memsw.limit_in_bytes"),
                                             absl::StrCat(resources.memory_swap_bytes)),
                                  "cannot apply the swap limit"));
  oom_events_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!oom_events_.valid()) return ErrnoStatus(errno, "eventfd");
  KILN_ASSIGN_OR_RETURN(const Fd control,
                        OpenFile(absl::StrCat(dir, "/memory.oom_control"), O_RDONLY));
  return Annotate(WriteValue(absl::StrCat(dir, "/cgroup.event_control"),
                             absl::StrCat(oom_events_.get(), " ", control.get())),
                  "watch for out of memory");
}

bool StepCgroup::OomKilled(int exit_code) const {
  if (roots_.empty()) return false;
  if (unified_) return CounterIn(absl::StrCat(roots_[0], path_, "/memory.events"), "oom_kill") > 0;
  if (oom_events_.valid()) {
    eventfd_t count = 0;
    return ::eventfd_read(oom_events_.get(), &count) == 0 && count > 0;
  }
  return exit_code == 128 + SIGKILL && MachineOomKills() > machine_oom_kills_;
}

void StepCgroup::Kill() const {
  if (roots_.empty()) return;
  const std::string dir = absl::StrCat(roots_[0], path_);
  if (unified_ && WriteValue(absl::StrCat(dir, "/cgroup.kill"), "1").ok()) return;
  for (const std::string& root : roots_) {
    if (::access(absl::StrCat(root, path_).c_str(), F_OK) != 0) continue;
    KillTree(absl::StrCat(root, path_));
  }
}

absl::Status StepCgroup::Remove() {
  const Deadline deadline(kRemoveTimeout);
  absl::Duration pause = absl::Microseconds(200);
  for (bool first = true; !roots_.empty(); first = false) {
    roots_.erase(std::remove_if(roots_.begin(), roots_.end(),
                                [&](const std::string& root) {
                                  return RemoveTree(absl::StrCat(root, path_));
                                }),
                 roots_.end());
    if (roots_.empty()) break;
    Kill();
    if (deadline.Passed()) {
      const std::string left = absl::StrCat(roots_[0], path_);
      roots_.clear();
      return absl::DeadlineExceededError(absl::StrCat("processes remain in ", left));
    }
    if (!first) absl::SleepFor(pause);  // a killed process leaves its cgroup when it is reaped
    pause = std::min(pause * 2, absl::Milliseconds(20));
  }
  oom_events_.Reset();
  return absl::OkStatus();
}

}  // namespace kiln::daemon
