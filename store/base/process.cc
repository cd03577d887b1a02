#include "store/base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

extern char** environ;

namespace kiln {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));
  out.push_back(nullptr);
  return out;
}

// Where each descriptor of the child comes from. Sources whose numbers are also targets are moved
// out of the way first, or an earlier dup2 would overwrite them.
class FdPlan {
 public:
  absl::Status Add(int ours, int target) {
    highest_target_ = std::max(highest_target_, target);
    moves_.push_back({ours, target});
    return absl::OkStatus();
  }

  absl::Status Apply(posix_spawn_file_actions_t* actions) {
    for (auto& [ours, target] : moves_) {
      if (ours < 0) {
        if (::posix_spawn_file_actions_addopen(actions, target, "/dev/null", O_RDWR, 0) != 0)
          return absl::ResourceExhaustedError("no memory for file actions");
        continue;
      }
      if (ours <= highest_target_) {
        const int moved = ::fcntl(ours, F_DUPFD_CLOEXEC, highest_target_ + 1);
        if (moved < 0) return ErrnoStatus(errno, absl::StrCat("duplicate descriptor ", ours));
        moved_.emplace_back(moved);
        ours = moved;
      }
      if (::posix_spawn_file_actions_adddup2(actions, ours, target) != 0)
        return absl::ResourceExhaustedError("no memory for file actions");
    }
    // What kilnd itself inherited need not be close-on-exec.
    if (::posix_spawn_file_actions_addclosefrom_np(actions, highest_target_ + 1) != 0)
      return absl::ResourceExhaustedError("no memory for file actions");
    return absl::OkStatus();
  }

 private:
  std::vector<std::pair<int, int>> moves_;
  std::vector<Fd> moved_;
  int highest_target_ = 2;
};

void SetAttributes(posix_spawnattr_t* attributes) {
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(attributes, &none);
  ::posix_spawnattr_setsigdefault(attributes, &all);
  ::posix_spawnattr_setpgroup(attributes, 0);
  ::posix_spawnattr_setflags(
      attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

}  // namespace

std::string ExitStatus::ToString() const {
  if (signal == 0) return absl::StrCat("exit status ", code);
  const char* name = ::sigdescr_np(signal);
  return absl::StrCat("signal ", signal, " (", name == nullptr ? "unknown" : name, ")");
}

absl::StatusOr<Process> Process::Start(const ProcessOptions& options) {
  if (options.args.empty()) return absl::InvalidArgumentError("no program to start");
  const std::string& program = options.args[0];

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  absl::Cleanup destroy = [&] {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  };
  SetAttributes(&attributes);

  FdPlan plan;
  KILN_RETURN_IF_ERROR(plan.Add(options.stdin_fd, STDIN_FILENO));
  KILN_RETURN_IF_ERROR(plan.Add(options.stdout_fd, STDOUT_FILENO));
  KILN_RETURN_IF_ERROR(plan.Add(options.stderr_fd, STDERR_FILENO));
  for (const auto& [ours, target] : options.extra_fds) KILN_RETURN_IF_ERROR(plan.Add(ours, target));
  KILN_RETURN_IF_ERROR(plan.Apply(&actions));
  if (!options.cwd.empty() &&
      ::posix_spawn_file_actions_addchdir_np(&actions, options.cwd.c_str()) != 0)
    return absl::ResourceExhaustedError("no memory for file actions");

  const std::vector<char*> argv = Pointers(options.args);
  std::vector<char*> envp;
  if (options.env.has_value()) envp = Pointers(*options.env);
  pid_t pid = -1;
  // glibc spawns with CLONE_VM | CLONE_VFORK: no page tables are copied and nothing of ours runs
  // in the child. The parent sees exec's errno.
  const int error = ::posix_spawnp(&pid, program.c_str(), &actions, &attributes, argv.data(),
                                   options.env.has_value() ? envp.data() : environ);
  if (error != 0) {
    std::string doing = absl::StrCat("start ", program);
    if (!options.cwd.empty()) absl::StrAppend(&doing, " in ", options.cwd);
    return ErrnoStatus(error, doing);
  }
  // The child is ours and not reaped yet, so the number cannot mean another process.
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (pidfd < 0) {
    const int open_error = errno;
    ::kill(-pid, SIGKILL);
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return ErrnoStatus(open_error, absl::StrCat("pidfd_open for ", program));
  }
  return Process(pid, Fd(pidfd));
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    Destroy();
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
  }
  return *this;
}

Process::~Process() { Destroy(); }

void Process::Destroy() {
  if (!pidfd_.valid()) return;
  Kill();
  (void)Reap();  // there is nobody left to tell
}

void Process::Kill() const {
  if (!pidfd_.valid()) return;
  // The group's number stays taken while its leader is not reaped.
  ::kill(-pid_, SIGKILL);
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
}

absl::Status Process::Signal(int signal_number) const {
  if (!pidfd_.valid()) return absl::OkStatus();
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal_number, nullptr, 0) != 0 &&
      errno != ESRCH)
    return ErrnoStatus(errno, absl::StrCat("signal process ", pid_));
  return absl::OkStatus();
}

absl::StatusOr<ExitStatus> Process::Reap() {
  siginfo_t info = {};
  // First look without reaping: the group may only be killed while its number is surely ours.
  while (::waitid(static_cast<idtype_t>(P_PIDFD), pidfd_.get(), &info, WEXITED | WNOWAIT) != 0) {
    if (errno != EINTR) return ErrnoStatus(errno, absl::StrCat("wait for process ", pid_));
  }
  ::kill(-pid_, SIGKILL);
  while (::waitid(static_cast<idtype_t>(P_PIDFD), pidfd_.get(), &info, WEXITED) != 0) {
    if (errno != EINTR) return ErrnoStatus(errno, absl::StrCat("reap process ", pid_));
  }
  pidfd_.Reset();
  ExitStatus status;
  (info.si_code == CLD_EXITED ? status.code : status.signal) = info.si_status;
  return status;
}

absl::StatusOr<ExitStatus> Process::Wait(const CancelToken& cancel) {
  KILN_CHECK(pidfd_.valid());
  KILN_ASSIGN_OR_RETURN(CancelFd cancelled, CancelFd::Make(cancel));
  pollfd fds[2] = {{pidfd_.get(), POLLIN, 0}, {cancelled.get(), POLLIN, 0}};
  for (;;) {
    if (::poll(fds, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "poll");
    }
    if (fds[0].revents != 0) return Reap();
    if (fds[1].revents != 0) {
      Kill();
      KILN_RETURN_IF_ERROR(Reap().status());
      return cancel.status();
    }
  }
}

absl::StatusOr<CancelFd> CancelFd::Make(const CancelToken& cancel) {
  Fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "eventfd");
  const int raw = fd.get();
  CancelRegistration registration = cancel.OnCancel([raw] { ::eventfd_write(raw, 1); });
  return CancelFd(std::move(fd), std::move(registration));
}

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

namespace {

enum class ReadOutcome { kData, kEmpty, kEnd };

absl::StatusOr<ReadOutcome> ReadSome(int fd, std::vector<char>& buffer, size_t* size) {
  for (;;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n > 0) {
      *size = static_cast<size_t>(n);
      return ReadOutcome::kData;
    }
    if (n == 0) return ReadOutcome::kEnd;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return ReadOutcome::kEmpty;
    if (errno != EINTR) return ErrnoStatus(errno, "read a pipe");
  }
}

}  // namespace

absl::Status DrainPipes(
    const std::vector<int>& fds, int pidfd, const CancelToken& cancel,
    absl::AnyInvocable<absl::Status(size_t index, absl::string_view data)> take) {
  KILN_ASSIGN_OR_RETURN(CancelFd cancelled, CancelFd::Make(cancel));
  std::vector<pollfd> polled;
  for (int fd : fds) {
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    polled.push_back({fd, POLLIN, 0});
  }
  polled.push_back({pidfd, POLLIN, 0});  // poll ignores negative descriptors
  polled.push_back({cancelled.get(), POLLIN, 0});
  size_t open = fds.size();
  bool ended = false;  // the process is gone: take what the pipes hold and do not wait for more
  // A descendant that escaped the group might write for ever: no more than the largest pipe
  // (pipe(7), pipe-max-size) can have been written before the end.
  std::vector<size_t> left_after_end(fds.size(), 1 << 20);
  std::vector<char> buffer(64 << 10);
  while (open > 0) {
    const int ready = ::poll(polled.data(), polled.size(), ended ? 0 : -1);
    if (ready < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "poll");
    }
    if (polled.back().revents != 0) return cancel.status();
    bool took = false;
    for (size_t i = 0; i < fds.size(); ++i) {
      if (polled[i].fd < 0 || (polled[i].revents == 0 && !ended)) continue;
      size_t size = 0;
      KILN_ASSIGN_OR_RETURN(const ReadOutcome outcome, ReadSome(fds[i], buffer, &size));
      if (outcome == ReadOutcome::kData) {
        if (ended) left_after_end[i] -= std::min(left_after_end[i], size);
        took = took || left_after_end[i] > 0;
        KILN_RETURN_IF_ERROR(take(i, absl::string_view(buffer.data(), size)));
      } else if (outcome == ReadOutcome::kEnd) {
        polled[i].fd = -1;
        --open;
      }
    }
    if (ended && !took) return absl::OkStatus();
    if (polled[fds.size()].revents != 0) {
      ended = true;
      polled[fds.size()].fd = -1;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<CommandOutput> RunCommand(const ProcessOptions& options, const CancelToken& cancel,
                                         const CaptureLimits& limits) {
  KILN_CHECK(options.stdout_fd == -1 && options.stderr_fd == -1);
  KILN_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  KILN_ASSIGN_OR_RETURN(Pipe err, MakePipe());
  ProcessOptions with_pipes = options;
  with_pipes.stdout_fd = out.write.get();
  with_pipes.stderr_fd = err.write.get();
  KILN_ASSIGN_OR_RETURN(Process process, Process::Start(with_pipes));
  out.write.Reset();
  err.write.Reset();

  CommandOutput result;
  auto take = [&](size_t index, absl::string_view data) -> absl::Status {
    if (index == 0) {
      if (result.out.size() + data.size() > limits.stdout_bytes)
        return absl::ResourceExhaustedError(
            absl::StrCat(options.args[0], " wrote more than ", limits.stdout_bytes, " bytes"));
      absl::StrAppend(&result.out, data);
      return absl::OkStatus();
    }
    absl::StrAppend(&result.err, data);
    if (result.err.size() > 2 * limits.stderr_bytes)  // cut rarely, not at each read
      result.err.erase(0, result.err.size() - limits.stderr_bytes);
    return absl::OkStatus();
  };
  // An early return destroys `process`, which kills and reaps.
  KILN_RETURN_IF_ERROR(DrainPipes({out.read.get(), err.read.get()}, process.pidfd(), cancel, take));
  if (result.err.size() > limits.stderr_bytes)
    result.err.erase(0, result.err.size() - limits.stderr_bytes);
  KILN_ASSIGN_OR_RETURN(result.status, process.Wait(cancel));
  return result;
}

absl::StatusOr<std::string> RunCommandForOutput(const ProcessOptions& options,
                                                const CancelToken& cancel,
                                                const CaptureLimits& limits) {
  KILN_ASSIGN_OR_RETURN(CommandOutput result, RunCommand(options, cancel, limits));
  if (result.status.ok()) return std::move(result.out);
  constexpr size_t kShown = 2048;
  absl::string_view err = absl::StripAsciiWhitespace(result.err);
  if (err.size() > kShown) err.remove_prefix(err.size() - kShown);
  const size_t named = std::min<size_t>(options.args.size(), 3);
  return absl::UnknownError(absl::StrCat(
      absl::StrJoin(options.args.begin(), options.args.begin() + static_cast<long>(named), " "),
      ": ", result.status.ToString(), err.empty() ? "" : ": ", err));
}

}  // namespace kiln
