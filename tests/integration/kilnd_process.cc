#include "tests/integration/kilnd_process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "store/base/cancel.h"
#include "store/base/deadline.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/base/unix_socket.h"

namespace kiln::integration {

namespace fs = std::filesystem;

namespace {

// Parents by pid, from /proc/*/stat; processes that end meanwhile are left out.
std::map<int, int> Parents() {
  std::map<int, int> parents;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (!std::all_of(name.begin(), name.end(), ::isdigit)) continue;
    std::ifstream in(entry.path() / "stat");
    std::string line;
    std::getline(in, line);
    const size_t end_of_name = line.rfind(')');
    if (end_of_name == std::string::npos) continue;
    std::istringstream rest(line.substr(end_of_name + 2));
    std::string state;
    int parent = 0;
    rest >> state >> parent;
    parents[std::stoi(name)] = parent;
  }
  return parents;
}

// Whether `now` has nothing that `before` has not.
bool Holds(std::vector<std::string> before, std::vector<std::string> now) {
  std::sort(before.begin(), before.end());
  std::sort(now.begin(), now.end());
  return std::includes(before.begin(), before.end(), now.begin(), now.end());
}

int CountDescendants(int ancestor) {
  const std::map<int, int> parents = Parents();
  int count = 0;
  for (auto [pid, parent] : parents) {
    for (int at = parent; at > 1;) {
      if (at == ancestor) {
        ++count;
        break;
      }
      auto it = parents.find(at);
      at = it == parents.end() ? 0 : it->second;
    }
  }
  return count;
}

std::vector<std::string> Entries(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    names.push_back(entry.path());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::string Holdings::ToString() const {
  return absl::StrCat(processes, " processes, ", descriptors, " descriptors, mounts [",
                      absl::StrJoin(mounts, " "), "], cgroups [", absl::StrJoin(cgroups, " "),
                      "], temporary [", absl::StrJoin(temporary, " "), "]");
}

absl::StatusOr<std::unique_ptr<KilndProcess>> KilndProcess::Start(const Options& options) {
  std::unique_ptr<KilndProcess> daemon(new KilndProcess);
  std::string pattern = "/tmp/kilnd-test-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) return ErrnoStatus(errno, "mkdtemp");
  daemon->folder_ = pattern;
  daemon->root_ = options.root.empty() ? pattern + "/root" : options.root;
  daemon->socket_ = pattern + "/kilnd.sock";
  daemon->log_ = pattern + "/kilnd.log";
  daemon->extra_args_ = options.extra_args;
  // Cgroups of its own: other daemons may run at the same time.
  daemon->cgroup_parent_ = fs::path(pattern).filename();
  KILN_RETURN_IF_ERROR(WriteFileAtomic(
      pattern + "/kilnd.toml", absl::StrCat("[worker.oci]\ndefaultCgroupParent = \"/",
                                            daemon->cgroup_parent_, "\"\n", options.config)));
  KILN_RETURN_IF_ERROR(daemon->Launch());
  return daemon;
}

absl::Status KilndProcess::Launch() {
  KILN_ASSIGN_OR_RETURN(Fd log, OpenFile(log_, O_WRONLY | O_CREAT | O_APPEND, 0600));
  ProcessOptions options;
  options.args = {
      KILND_BINARY, "--root", root_, "--addr", address(), "--config", folder_ + "/kilnd.toml",
      "--debug"};
  options.args.insert(options.args.end(), extra_args_.begin(), extra_args_.end());
  options.stdout_fd = log.get();
  options.stderr_fd = log.get();
  KILN_ASSIGN_OR_RETURN(process_, Process::Start(options));
  const Deadline end(absl::Minutes(1));
  while (!ConnectUnix(socket_).ok()) {
    if (end.Passed())
      return absl::DeadlineExceededError(absl::StrCat("kilnd does not answer; log:\n", Log()));
    absl::SleepFor(absl::Milliseconds(5));
  }
  return absl::OkStatus();
}

KilndProcess::~KilndProcess() {
  if (process_.running()) Stop().IgnoreError();
  for (const std::string& group : OwnCgroups()) {
    ::rmdir((group + "/buildkit").c_str());
    ::rmdir(group.c_str());
  }
  std::error_code error;  // best effort: a mount left behind is what the leak test is for
  fs::remove_all(folder_, error);
}

std::string KilndProcess::Log() const { return ReadFileToString(log_).value_or("(no log)"); }

absl::StatusOr<ExitStatus> KilndProcess::Stop() {
  KILN_RETURN_IF_ERROR(process_.Signal(SIGTERM));
  CancelSource late;
  // Wait() kills at the cause: a daemon that does not stop fails the test instead of hanging it.
  std::thread timer([&, token = late.token()] {
    if (token.SleepFor(absl::Minutes(1)).ok())
      late.Cancel(absl::DeadlineExceededError("kilnd did not stop within a minute of SIGTERM"));
  });
  absl::StatusOr<ExitStatus> status = process_.Wait(late.token());
  late.Cancel();
  timer.join();
  return status;
}

void KilndProcess::Kill() {
  // Only the daemon itself, as the kernel's OOM killer would: what it started lives on.
  process_.Signal(SIGKILL).IgnoreError();
  process_.Wait(CancelToken()).IgnoreError();
}

absl::Status KilndProcess::Restart() { return Launch(); }

std::vector<std::string> KilndProcess::OwnCgroups() const {
  std::vector<std::string> groups;
  for (const std::string& hierarchy : Entries("/sys/fs/cgroup")) {
    const std::string group = absl::StrCat(hierarchy, "/", cgroup_parent_);
    if (fs::is_directory(group)) groups.push_back(group);
  }
  const std::string unified = "/sys/fs/cgroup/" + cgroup_parent_;
  if (fs::is_directory(unified)) groups.push_back(unified);
  return groups;
}

Holdings KilndProcess::Count() const {
  Holdings held;
  held.processes = CountDescendants(pid());
  held.descriptors = static_cast<int>(Entries(absl::StrCat("/proc/", pid(), "/fd")).size());
  std::ifstream mounts(absl::StrCat("/proc/", pid(), "/mountinfo"));
  for (std::string line; std::getline(mounts, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() > 4 && absl::StartsWith(fields[4], root_)) held.mounts.push_back(fields[4]);
  }
  for (const std::string& group : OwnCgroups()) {
    for (const std::string& step : Entries(group + "/buildkit"))
      if (fs::is_directory(step)) held.cgroups.push_back(step);
  }
  std::vector<std::string> folders = {root_ + "/runtime"};
  for (const char* below : {"/tmp", "/executor"}) {
    for (const std::string& folder : Entries(root_ + below)) folders.push_back(folder);
  }
  for (const std::string& folder : folders) {
    for (const std::string& entry : Entries(folder)) held.temporary.push_back(entry);
  }
  return held;
}

bool KilndProcess::SettlesTo(const Holdings& before, absl::Duration limit) const {
  const Deadline end(limit);
  for (;;) {
    const Holdings now = Count();
    // gRPC keeps a few pooled descriptors; a leak grows with every build and shows after several.
    // What was on its way out before may be gone now.
    if (now.processes <= before.processes && Holds(before.mounts, now.mounts) &&
        Holds(before.cgroups, now.cgroups) && Holds(before.temporary, now.temporary) &&
        now.descriptors <= before.descriptors + 8)
      return true;
    if (end.Passed()) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
}

}  // namespace kiln::integration
