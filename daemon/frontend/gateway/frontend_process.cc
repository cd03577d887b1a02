#include "daemon/frontend/gateway/frontend_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/frontend/gateway/socket_holders.h"
#include "store/base/deadline.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kLastWords = 1 << 10;     // they go into the error
constexpr size_t kMaxBuffered = 64 << 20;  // some messages of the largest size
// How long a process may live on without its connection.
constexpr absl::Duration kGrace = absl::Seconds(5);
constexpr absl::Duration kCallGrace = absl::Seconds(1);
// How often it is looked whether the process has closed its end: the kernel does not tell, as the
// OCI runtime has it, too.
constexpr absl::Duration kLook = absl::Milliseconds(500);

}  // namespace

absl::StatusOr<std::unique_ptr<FrontendProcess>> FrontendProcess::Start(BuildContainer& container,
                                                                        const std::string& init,
                                                                        grpc::Service* service,
                                                                        const CancelToken& cancel) {
  std::unique_ptr<FrontendProcess> made(new FrontendProcess());
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return ErrnoStatus(errno, "connect a frontend");
  Fd ours(pair[0]), theirs(pair[1]);
  struct stat end;
  if (fstat(theirs.get(), &end) != 0) return ErrnoStatus(errno, "connect a frontend");
  made->socket_ = end.st_ino;
  made->connection_ = Fd(fcntl(ours.get(), F_DUPFD_CLOEXEC, 0));
  if (!made->connection_.valid()) return ErrnoStatus(errno, "connect a frontend");
  KILN_ASSIGN_OR_RETURN(Pipe errors, MakePipe());
  if (fcntl(errors.read.get(), F_SETFL, O_NONBLOCK) != 0)
    return ErrnoStatus(errno, "connect a frontend");
  RpcServerOptions options;
  options.max_buffered_bytes = kMaxBuffered;
  KILN_ASSIGN_OR_RETURN(made->server_, RpcServer::Start(options, {service}));
  KILN_ASSIGN_OR_RETURN(
      made->process_,
      container.Start(init, {theirs.get(), theirs.get(), errors.write.get()}, cancel));
  made->errors_ = std::move(errors.read);
  made->server_->Serve(std::move(ours));
  return made;
}

FrontendProcess::~FrontendProcess() {
  process_.reset();
  if (server_ != nullptr) server_->Shutdown(absl::Now());
}

bool FrontendProcess::TakeOutput(StepLog& log) {
  char buffer[16 << 10];
  const ssize_t got = read(errors_.get(), buffer, sizeof(buffer));
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  log.Write(2, absl::string_view(buffer, got));
  last_words_.append(buffer, got);
  if (last_words_.size() > kLastWords) last_words_.erase(0, last_words_.size() - kLastWords);
  return true;
}

bool FrontendProcess::LetGo() {
  // Once may be between two programs.
  const bool now = DescendantHolds(process_->pidfd(), socket_) == std::optional<bool>(false);
  return std::exchange(let_go_before_, now) && now;
}

absl::StatusOr<FrontendProcess::Stop> FrontendProcess::Watch(StepLog* log,
                                                             const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const CancelFd cancelled, CancelFd::Make(cancel));
  // Neither waits for a pause in what it says. While it is connected: the next look.
  Deadline deadline(kLook);
  bool connected = true;
  while (true) {
    pollfd watched[] = {{process_->pidfd(), POLLIN, 0},
                        {cancelled.get(), POLLIN, 0},
                        {errors_.get(), POLLIN, 0},
                        {connected ? connection_.get() : -1, POLLRDHUP, 0}};
    const int ready =
        poll(watched, 4,
             static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(deadline.Left()))));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return ErrnoStatus(errno, "wait for a frontend");
    if (watched[1].revents != 0) return cancel.status();
    if (deadline.Passed() && !connected && watched[0].revents == 0)
      return absl::UnknownError("frontend grpc server closed unexpectedly");
    if (watched[3].revents != 0 || (deadline.Passed() && LetGo())) {
      connected = false;
      deadline = Deadline(kGrace);
    } else if (deadline.Passed()) {
      deadline = Deadline(kLook);
    }
    if (watched[2].revents != 0) {
      if ((watched[2].revents & POLLIN) != 0 && log == nullptr) return Stop::kOutput;
      if (log == nullptr || !TakeOutput(*log)) errors_.Reset();
    } else if (watched[0].revents != 0) {
      return Stop::kEnded;  // all that it wrote has been shown
    }
  }
}

absl::StatusOr<ExitInfo> FrontendProcess::Wait(solver::Job& job, const std::string& name,
                                               const LogLimits& limits, const CancelToken& cancel) {
  const absl::Status watched = [&]() -> absl::Status {
    KILN_ASSIGN_OR_RETURN(const Stop stop, Watch(nullptr, cancel));
    if (stop == Stop::kEnded) return absl::OkStatus();
    return job.RunStep(name, name, [&](solver::ProgressSink& sink) {
      StepLog log(&sink, limits);
      const absl::Status status = Watch(&log, cancel).status();
      log.FlushWithheld();  // who floods has mostly failed, which is known later
      return status;
    });
  }();
  CancelSource stop;
  if (!watched.ok()) stop.Cancel(watched);
  const absl::StatusOr<ExitInfo> exit = process_->Wait(stop.token());
  // Calls that it made before it ended have been answered, or nobody waits for them.
  server_->Shutdown(absl::Now() + (watched.ok() ? kCallGrace : absl::ZeroDuration()));
  server_.reset();
  return exit;
}

}  // namespace kiln::daemon
