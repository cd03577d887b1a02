#include "daemon/executor/oci_container.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/executor/terminal.h"
#include "daemon/executor/user.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr int kPidPollMs = 2;

// A hold on the program itself: the runtime writes its pid once the container is up. Invalid when
// the runtime ended before; Wait tells why.
absl::StatusOr<Fd> AwaitProgram(const std::string& pid_file, int runtime_pidfd,
                                const CancelToken& cancel) {
  while (true) {
    KILN_RETURN_IF_ERROR(cancel.status());
    pid_t pid = 0;
    const std::string text = ReadFileToString(pid_file, 64).value_or("");
    if (absl::SimpleAtoi(text, &pid) && pid > 0) {
      // Invalid when it has ended already; its runtime then has too, or is about to.
      return Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    }
    pollfd ended = {runtime_pidfd, POLLIN, 0};
    if (poll(&ended, 1, kPidPollMs) > 0) return Fd();
  }
}

Fd Duplicate(const Fd& fd) { return fd.valid() ? Fd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)) : Fd(); }

// The kernel ends a container with its first process. What the runtime says of one that is going
// depends on how far that got.
absl::Status CheckStays(const Fd& first) {
  pollfd ended = {first.get(), POLLIN, 0};
  if (first.valid() && poll(&ended, 1, 0) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError("the container's first process has ended");
}

class OciProcess final : public ContainerProcess {
 public:
  // The first process: `step` tells how it ended.
  OciProcess(const OciStep* step, std::string log_file)
      : step_(step), log_file_(std::move(log_file)) {}
  // One that joins. `first`: pidfd of the first program; invalid: it has ended.
  OciProcess(Fd first, std::string log_file)
      : step_(nullptr), first_(std::move(first)), log_file_(std::move(log_file)) {}

  ~OciProcess() override {
    // The runtime alone would leave it running. Errors: it has ended.
    if (process_.running()) Signal(SIGKILL).IgnoreError();
  }

  Fd DuplicateProgram() const { return Duplicate(program_); }

  int pidfd() const override { return process_.pidfd(); }
  int terminal() const override { return terminal_.get(); }

  absl::Status Signal(int signal_number) override {
    if (!program_.valid()) return absl::OkStatus();
    if (syscall(SYS_pidfd_send_signal, program_.get(), signal_number, nullptr, 0) == 0 ||
        errno == ESRCH)
      return absl::OkStatus();
    return ErrnoStatus(errno, absl::StrCat("send signal ", signal_number));
  }

  absl::Status Resize(int rows, int columns) override {
    if (!terminal_.valid())
      return absl::FailedPreconditionError("resize: the process has no terminal");
    KILN_RETURN_IF_ERROR(SetTerminalSize(terminal_.get(), rows, columns));
    // A runtime in between passes the size on when it is told to look.
    if (runtime_.valid() &&
        syscall(SYS_pidfd_send_signal, runtime_.get(), SIGWINCH, nullptr, 0) != 0 && errno != ESRCH)
      return ErrnoStatus(errno, "tell the OCI runtime of a resize");
    return absl::OkStatus();
  }

  absl::StatusOr<ExitInfo> Wait(const CancelToken& cancel) override {
    const absl::StatusOr<ExitStatus> status = process_.Wait(cancel);
    if (!status.ok()) {
      Signal(SIGKILL).IgnoreError();  // it has ended, then
      return status.status();
    }
    if (step_ != nullptr) return step_->Explain(*status, log_file_);
    absl::StatusOr<ExitInfo> info = ExplainExit(*status, log_file_);
    if (!info.ok()) KILN_RETURN_IF_ERROR(CheckStays(first_));
    return info;
  }

  // Starts the runtime through `launch` and takes hold of the program.
  template <typename Launch>
  absl::Status Start(const ProcessRequest& request, const std::string& bundle, int number,
                     bool takes_console_socket, const CancelToken& cancel, const Launch& launch) {
    RuntimeLauncher::Command command;
    command.log_file = log_file_;
    command.pid_file = absl::StrCat(bundle, "/pid-", number);
    std::optional<ConsoleSocket> console;
    TerminalPair pair;
    if (!request.terminal) {
      command.stdin_fd = request.stdin_fd;
      command.stdout_fd = request.stdout_fd;
      command.stderr_fd = request.stderr_fd;
    } else if (takes_console_socket) {
      KILN_ASSIGN_OR_RETURN(ConsoleSocket socket,
                            ConsoleSocket::Listen(bundle, absl::StrCat("tty-", number)));
      console.emplace(std::move(socket));
      command.console_socket = console->name();
    } else {
      KILN_ASSIGN_OR_RETURN(pair, TerminalPair::Open());
      command.stdin_fd = command.stdout_fd = command.stderr_fd = pair.theirs.get();
    }
    KILN_ASSIGN_OR_RETURN(process_, launch(command));
    if (pair.ours.valid()) {
      runtime_ = Fd(fcntl(process_.pidfd(), F_DUPFD_CLOEXEC, 0));
      terminal_ = std::move(pair.ours);
    }
    if (console.has_value()) {
      absl::StatusOr<Fd> terminal = console->Receive(process_.pidfd(), cancel);
      // Without one the runtime has failed and says why when it is waited for.
      if (terminal.ok())
        terminal_ = *std::move(terminal);
      else if (!absl::IsUnavailable(terminal.status()))
        return terminal.status();
    }
    KILN_ASSIGN_OR_RETURN(program_, AwaitProgram(command.pid_file, process_.pidfd(), cancel));
    return absl::OkStatus();
  }

 private:
  const OciStep* const step_;
  const Fd first_;
  const std::string log_file_;
  Process process_;  // the runtime; Wait's
  Fd program_;       // pidfd; invalid: it ended, or never ran
  Fd terminal_;
  Fd runtime_;  // pidfd of a runtime that passes a terminal's bytes on
};

class OciContainer final : public Container {
 public:
  OciContainer(const OciShared* shared, ProcessSpec spec)
      : shared_(shared), spec_(std::move(spec)) {}

  absl::StatusOr<std::unique_ptr<ContainerProcess>> Start(const ProcessRequest& request,
                                                          const CancelToken& cancel) override {
    MutexLock lock(&mu_);
    const int number = next_++;
    return step_ == nullptr ? StartFirst(request, number, cancel) : Join(request, number, cancel);
  }

 private:
  static void Fill(const ProcessRequest& request, ProcessSpec* spec) {
    spec->args = request.args;
    spec->env = request.env;
    spec->cwd = request.cwd;
    spec->user = request.user;
    spec->security = request.security;
  }

  absl::StatusOr<std::unique_ptr<ContainerProcess>> StartFirst(const ProcessRequest& request,
                                                               int number,
                                                               const CancelToken& cancel)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Fill(request, &spec_);
    auto step = std::make_unique<OciStep>(shared_, spec_);
    KILN_RETURN_IF_ERROR(step->Prepare(request.terminal, cancel));
    auto process = std::make_unique<OciProcess>(step.get(), absl::StrCat(step->bundle(), "/log"));
    KILN_RETURN_IF_ERROR(process->Start(
        request, step->bundle(), number, TakesConsoleSocket(), cancel,
        [&](const RuntimeLauncher::Command& command) { return step->Run(command); }));
    first_ = process->DuplicateProgram();
    step_ = std::move(step);
    return process;
  }

  absl::StatusOr<std::unique_ptr<ContainerProcess>> Join(const ProcessRequest& request, int number,
                                                         const CancelToken& cancel)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    KILN_RETURN_IF_ERROR(CheckStays(first_));
    ProcessSpec spec;
    Fill(request, &spec);
    OciParameters parameters;
    KILN_ASSIGN_OR_RETURN(parameters.user, ResolveUser(step_->rootfs(), spec.user));
    parameters.cwd = CleanAbsolute(spec.cwd);
    parameters.terminal = request.terminal;
    KILN_ASSIGN_OR_RETURN(const std::string text, MakeOciProcess(spec, parameters));
    const std::string process_file = absl::StrCat(step_->bundle(), "/process-", number);
    KILN_ASSIGN_OR_RETURN(Fd file, OpenFile(process_file, O_WRONLY | O_CREAT | O_EXCL, 0600));
    KILN_RETURN_IF_ERROR(Annotate(WriteAll(file.get(), text), "write the OCI process"));
    auto process = std::make_unique<OciProcess>(Duplicate(first_),
                                                absl::StrCat(step_->bundle(), "/log-", number));
    KILN_RETURN_IF_ERROR(process->Start(request, step_->bundle(), number, TakesConsoleSocket(),
                                        cancel, [&](RuntimeLauncher::Command command) {
                                          command.bundle = step_->bundle();
                                          command.id = step_->spec().id;
                                          command.process_file = process_file;
                                          return shared_->launcher.Exec(command);
                                        }));
    return process;
  }

  // runc takes one only for a container that it leaves behind.
  bool TakesConsoleSocket() const {
    return shared_->launcher.binary().kind == RuntimeBinary::Kind::kCrun;
  }

  const OciShared* const shared_;
  Mutex mu_;
  ProcessSpec spec_ ABSL_GUARDED_BY(mu_);
  int next_ ABSL_GUARDED_BY(mu_) = 0;
  std::unique_ptr<OciStep> step_ ABSL_GUARDED_BY(mu_);  // null: nothing was started yet
  Fd first_ ABSL_GUARDED_BY(mu_);  // pidfd of the first program; invalid: it has ended
};

}  // namespace

std::unique_ptr<Container> MakeOciContainer(const OciShared* shared, ProcessSpec spec) {
  return std::make_unique<OciContainer>(shared, std::move(spec));
}

}  // namespace kiln::daemon
