#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"

namespace kiln {

// How a process ended.
struct ExitStatus {
  int code = 0;    // exit code; 0 when a signal ended it
  int signal = 0;  // 0: it exited by itself

  bool ok() const { return code == 0 && signal == 0; }
  // As a shell says it: the code, or 128 + signal.
  int ShellCode() const { return signal != 0 ? 128 + signal : code; }
  // "exit status 3" or "signal 9 (Killed)".
  std::string ToString() const;
};

struct ProcessOptions {
  std::vector<std::string> args;  // args[0] is looked up in the daemon's PATH when it has no '/'
  // The child's whole environment; nullopt passes the daemon's own.
  std::optional<std::vector<std::string>> env;
  std::string cwd;  // empty: the daemon's

  // Borrowed until Start returns; -1 means /dev/null.
  int stdin_fd = -1, stdout_fd = -1, stderr_fd = -1;
  // More descriptors: (ours, number in the child, above 2). Borrowed until Start returns.
  std::vector<std::pair<int, int>> extra_fds;
};

// Owns one child process and its process group, through a pidfd.
//
// The child leads a group of its own, gets no descriptor but those named, an empty signal mask and
// default signal actions. When it ends, what is left of its group is killed, so no descendant that
// stayed in the group outlives its owner. Destroying a running Process kills the group and reaps.
// Move-only; not thread-safe: another thread stops it through the token given to Wait.
class Process {
 public:
  // Starts the program. kNotFound when there is none of that name; errors name args[0].
  static absl::StatusOr<Process> Start(const ProcessOptions& options);

  Process() = default;
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  // Becomes readable when the child has ended; for poll. Stays owned by this object.
  int pidfd() const { return pidfd_.get(); }
  bool running() const { return pidfd_.valid(); }

  // Blocks until the child ends, then reaps it. When `cancel` fires first: kills the group, reaps
  // it, returns the cause. To be called once.
  absl::StatusOr<ExitStatus> Wait(const CancelToken& cancel);

  // To the child alone. OK when it has ended already.
  absl::Status Signal(int signal_number) const;
  // SIGKILL to the whole group.
  void Kill() const;

 private:
  Process(pid_t pid, Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  absl::StatusOr<ExitStatus> Reap();
  void Destroy();

  pid_t pid_ = -1;
  Fd pidfd_;  // invalid: nothing is owned
};

// A descriptor that becomes readable when a token fires: for poll next to others.
class CancelFd {
 public:
  static absl::StatusOr<CancelFd> Make(const CancelToken& cancel);
  int get() const { return fd_.get(); }

 private:
  CancelFd(Fd fd, CancelRegistration registration)
      : fd_(std::move(fd)), registration_(std::move(registration)) {}
  Fd fd_;
  CancelRegistration registration_;  // after fd_: gone before the descriptor is closed
};

// Both ends close-on-exec.
struct Pipe {
  Fd read, write;
};
absl::StatusOr<Pipe> MakePipe();

// What RunCommand may hold of the output.
struct CaptureLimits {
  size_t stdout_bytes = 16 << 20;  // more: the command is killed, kResourceExhausted
  size_t stderr_bytes = 64 << 10;  // the last bytes are kept
};

struct CommandOutput {
  ExitStatus status;
  std::string out, err;
};

// Runs a command to its end and collects its output; the descriptors in `options` for stdout and
// stderr must be -1. A failing command is not an error here: look at status. A descendant that
// left the process group and still holds a pipe does not delay the return.
absl::StatusOr<CommandOutput> RunCommand(const ProcessOptions& options, const CancelToken& cancel,
                                         const CaptureLimits& limits = {});

// The same, where anything but exit code 0 is an error that carries the last lines of stderr.
absl::StatusOr<std::string> RunCommandForOutput(const ProcessOptions& options,
                                                const CancelToken& cancel,
                                                const CaptureLimits& limits = {});

// Reads `fds` until all are at their end, or until `pidfd` (-1: none) tells that the process ended
// and what the pipes hold has been taken. `take(i, data)` gets what fds[i] gave; an error of it, or
// the cause of `cancel`, ends the reading. The descriptors are made non-blocking.
absl::Status DrainPipes(
    const std::vector<int>& fds, int pidfd, const CancelToken& cancel,
    absl::AnyInvocable<absl::Status(size_t index, absl::string_view data)> take);

}  // namespace kiln
