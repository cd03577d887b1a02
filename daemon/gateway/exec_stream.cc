#include "daemon/gateway/exec_stream.h"

#include <grpcpp/server_context.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/gateway/build_container.h"
#include "daemon/gateway/process_pump.h"
#include "daemon/ops/exec.h"
#include "daemon/rpc/status.h"
#include "proto/buildkit/gateway.pb.h"
#include "proto/status_details.h"
#include "store/base/mutex.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

namespace pbf = moby::buildkit::v1::frontend;

constexpr size_t kMaxQueuedOutput = 1 << 20;  // bytes; processes wait beyond it
constexpr size_t kMaxQueuedInput = 4 << 20;   // of one process; the client waits beyond it
constexpr int kUnknownExit = 255;

// "TERM" and "SIGTERM" are 15.
absl::StatusOr<int> SignalNumber(absl::string_view name) {
  absl::string_view bare = name;
  absl::ConsumePrefix(&bare, "SIG");
  for (int number = 1; number < NSIG; ++number) {
    const char* known = sigabbrev_np(number);
    if (known != nullptr && bare == known) return number;
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown signal ", name));
}

struct RunningProcess {
  std::unique_ptr<ProcessPump> pump;
  bool takes_input = false;
};

// The client's messages are taken in gRPC's reactions, which only sort them into pumps. Output goes
// through one bounded queue. Pumps hold the object; it holds itself until OnDone.
class ExecStream : public grpc::ServerBidiReactor<pbf::ExecMessage, pbf::ExecMessage> {
 public:
  using Finder = std::function<absl::StatusOr<std::shared_ptr<Bridge>>(const CancelToken&)>;

  static ExecStream* Open(ThreadPool* pool, Finder find) {
    auto stream = std::make_shared<ExecStream>();
    ExecStream* raw = stream.get();
    raw->self_ = stream;
    raw->pool_ = pool;
    pool->Post([stream, find = std::move(find)] {
      auto bridge = find(stream->cancel_.token());
      MutexLock lock(&stream->mu_);
      if (!bridge.ok())
        return stream->FailLocked(Annotate(bridge.status(), "forwarding ExecProcess"));
      stream->bridge_ = *std::move(bridge);
      stream->ReadOnLocked();
    });
    return raw;
  }

 private:
  void OnReadDone(bool ok) override {
    MutexLock lock(&mu_);
    reading_ = false;
    if (finished_) return;
    if (!ok) {
      half_closed_ = true;  // what runs goes on; a client that leaves cancels
      return EndIfIdleLocked();
    }
    const absl::Status status = HandleLocked();
    if (!status.ok()) return FailLocked(status);
    ReadOnLocked();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) return FailLocked(absl::CancelledError("client is gone"));
    queued_output_ -= outgoing_.ByteSizeLong();
    room_.SignalAll();
    WriteOnLocked();
  }

  void OnCancel() override {
    MutexLock lock(&mu_);
    FailLocked(absl::CancelledError("context canceled"));
  }

  void OnDone() override { self_.reset(); }

  absl::Status HandleLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const std::string& id = incoming_.processid();
    if (id.empty()) return absl::InvalidArgumentError("exec message without a process id");
    if (incoming_.Input_case() == pbf::ExecMessage::kInit) return InitLocked(id);
    const auto found = processes_.find(id);
    if (found == processes_.end())
      return absl::NotFoundError(absl::StrCat("IO for process \"", id, "\" not found"));
    RunningProcess& process = found->second;
    switch (incoming_.Input_case()) {
      case pbf::ExecMessage::kFile: {
        pbf::FdMessage& file = *incoming_.mutable_file();
        if (file.fd() != 0 || !process.takes_input)
          return absl::OutOfRangeError(absl::StrCat("fd ", file.fd(), " unavailable to write"));
        if (!file.data().empty()) process.pump->Write(std::move(*file.mutable_data()));
        if (file.eof()) process.pump->CloseInput();
        return absl::OkStatus();
      }
      case pbf::ExecMessage::kResize:
        process.pump->Resize(static_cast<int>(incoming_.resize().rows()),
                             static_cast<int>(incoming_.resize().cols()));
        return absl::OkStatus();
      case pbf::ExecMessage::kSignal: {
        KILN_ASSIGN_OR_RETURN(const int number, SignalNumber(incoming_.signal().name()));
        process.pump->Signal(number);
        return absl::OkStatus();
      }
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("unexpected exec message for process \"", id, "\""));
    }
  }

  absl::Status InitLocked(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (processes_.contains(id))
      return absl::AlreadyExistsError(absl::StrCat("process \"", id, "\" already exists"));
    const pbf::InitMessage& init = incoming_.init();
    KILN_ASSIGN_OR_RETURN(auto container, bridge_->containers().Find(init.containerid()));
    for (uint32_t fd : init.fds())
      if (fd > 2) return absl::InvalidArgumentError(absl::StrCat("fd ", fd, " is not supported"));
    RunningProcess process;
    const std::weak_ptr<ExecStream> weak = self_;
    KILN_ASSIGN_OR_RETURN(process.pump, ProcessPump::Make([weak] {
                            if (auto self = weak.lock()) self->InputTaken();
                          }));
    process.takes_input = init.tty() || Wants(init, 0);
    KILN_RETURN_IF_ERROR(BuildContainer::Turn::Post(
        std::move(container), pool_,
        [self = self_, id, init](std::unique_ptr<BuildContainer::Turn> turn) {
          self->RunProcess(id, init, *turn);
          turn.reset();  // before the client is told that the process is done
          self->Ended(id);
        }));
    processes_.emplace(id, std::move(process));  // before the work, which waits for our lock
    return absl::OkStatus();
  }

  static bool Wants(const pbf::InitMessage& init, uint32_t fd) {
    return std::find(init.fds().begin(), init.fds().end(), fd) != init.fds().end();
  }

  // From start to exit. Runs on a thread of the pool.
  void RunProcess(const std::string& id, const pbf::InitMessage& init, BuildContainer::Turn& turn) {
    ProcessPump* pump;
    {
      MutexLock lock(&mu_);
      pump = processes_.at(id).pump.get();  // stays: only Ended removes it
    }
    // The stream's end or the container's stops it.
    CancelSource either;
    const CancelToken stream_end = cancel_.token(), container_end = turn.container().released();
    const CancelRegistration on_stream =
        stream_end.OnCancel([&] { either.Cancel(stream_end.status()); });
    const CancelRegistration on_container = container_end.OnCancel([&] {
      either.Cancel(container_end.status());
      MutexLock lock(&mu_);
      room_.SignalAll();
    });
    const absl::StatusOr<ExitInfo> exit = Execute(id, init, turn, *pump, either.token());
    SendExit(id, exit);
  }

  absl::StatusOr<ExitInfo> Execute(const std::string& id, const pbf::InitMessage& init,
                                   BuildContainer::Turn& turn, ProcessPump& pump,
                                   const CancelToken& cancel) {
    ProcessPump::Pipes ours;
    std::set<int> open;  // outputs whose end the client was not told yet
    bool wrong_format = false;
    const auto output = [&](int fd, absl::string_view data) {
      wrong_format = wrong_format || SaysWrongFormat(data);
      if (data.empty()) open.erase(fd);
      return SendFile(id, fd, data, turn.container().released());
    };
    BuildContainer::Stdio theirs;
    Fd in, out, err;
    if (!init.tty()) {
      const auto connect = [&](uint32_t fd, Fd& our_end, Fd& their_end, int& number) {
        if (!Wants(init, fd)) return absl::OkStatus();
        KILN_ASSIGN_OR_RETURN(Pipe pipe, MakePipe());
        our_end = fd == 0 ? std::move(pipe.write) : std::move(pipe.read);
        their_end = fd == 0 ? std::move(pipe.read) : std::move(pipe.write);
        number = their_end.get();
        return absl::OkStatus();
      };
      KILN_RETURN_IF_ERROR(connect(0, ours.in, in, theirs.in));
      KILN_RETURN_IF_ERROR(connect(1, ours.out, out, theirs.out));
      KILN_RETURN_IF_ERROR(connect(2, ours.err, err, theirs.err));
    }
    for (int fd : {1, 2})
      if (Wants(init, fd)) open.insert(fd);
    pbf::ExecMessage started;
    started.set_processid(id);
    started.mutable_started();
    Send(std::move(started));
    const absl::StatusOr<ExitInfo> exit = [&]() -> absl::StatusOr<ExitInfo> {
      KILN_ASSIGN_OR_RETURN(const auto process,
                            turn.Start(init.SerializeAsString(), theirs, cancel));
      in.Reset();
      out.Reset();
      err.Reset();
      KILN_ASSIGN_OR_RETURN(ExitInfo info, pump.Run(*process, std::move(ours), output, cancel));
      if (info.code != 0 && (wrong_format || SaysWrongFormat(info.start_failure))) {
        const std::string missing = turn.container().MissingEmulator();
        if (!info.start_failure.empty() && !missing.empty()) info.start_failure += ": ";
        info.start_failure += missing;
      }
      return info;
    }();
    for (int fd : std::set<int>(open)) SendFile(id, fd, "", CancelToken()).IgnoreError();
    return exit;
  }

  void SendExit(const std::string& id, const absl::StatusOr<ExitInfo>& exit) {
    pbf::ExecMessage message;
    message.set_processid(id);
    const int code = exit.ok() ? exit->code : kUnknownExit;
    message.mutable_exit()->set_code(static_cast<uint32_t>(code));
    if (code != 0) {
      absl::Status error = exit.status();
      if (exit.ok()) {
        std::string text = absl::StrCat("exit code: ", code);
        if (exit->oom_killed) absl::StrAppend(&text, ": cannot allocate memory");
        if (!exit->start_failure.empty()) text = absl::StrCat(exit->start_failure, ": ", text);
        error = absl::UnknownError(text);
      }
      AddExitDetail(static_cast<uint32_t>(code), &error);
      message.mutable_exit()->mutable_error()->ParseFromString(SerializeStatus(error));
    }
    Send(std::move(message));
  }

  // Waits for room, unless the process is to stop; "" is the end of that output and never waits.
  absl::Status SendFile(const std::string& id, int fd, absl::string_view data,
                        const CancelToken& stop) {
    pbf::ExecMessage message;
    message.set_processid(id);
    message.mutable_file()->set_fd(static_cast<uint32_t>(fd));
    message.mutable_file()->set_eof(data.empty());
    message.mutable_file()->set_data(data.data(), data.size());
    MutexLock lock(&mu_);
    while (!data.empty() && !finished_ && queued_output_ > kMaxQueuedOutput) {
      KILN_RETURN_IF_ERROR(stop.status());
      room_.Wait(&mu_);
    }
    if (finished_) return absl::CancelledError("client is gone");
    SendLocked(std::move(message));
    return absl::OkStatus();
  }

  void Send(pbf::ExecMessage message) {
    MutexLock lock(&mu_);
    SendLocked(std::move(message));
  }

  void SendLocked(pbf::ExecMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_) return;  // nobody listens any more
    queued_output_ += message.ByteSizeLong();
    output_.push_back(std::move(message));
    WriteOnLocked();
  }

  void Ended(const std::string& id) {
    pbf::ExecMessage done;
    done.set_processid(id);
    done.mutable_done();
    Send(std::move(done));
    MutexLock lock(&mu_);
    processes_.erase(id);
    if (finished_) return;
    ReadOnLocked();
    EndIfIdleLocked();
  }

  void InputTaken() {
    MutexLock lock(&mu_);
    ReadOnLocked();
  }

  // Asks for the next message, unless a process is behind with its input: then its pump asks.
  void ReadOnLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (reading_ || half_closed_ || finished_) return;
    for (const auto& [id, process] : processes_)
      if (process.pump->queued_bytes() > kMaxQueuedInput) return;
    reading_ = true;
    StartRead(&incoming_);
  }

  void WriteOnLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return;
    if (output_.empty()) return EndIfIdleLocked();
    outgoing_ = std::move(output_.front());
    output_.pop_front();
    writing_ = true;
    StartWrite(&outgoing_);
  }

  void EndIfIdleLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_ || !half_closed_ || !processes_.empty() || writing_ || !output_.empty()) return;
    finished_ = true;
    Finish(grpc::Status::OK);
  }

  void FailLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (std::exchange(finished_, true)) return;
    room_.SignalAll();
    Finish(ToGrpc(status));
    cancel_.Cancel(status);  // nobody who is told takes our lock
  }

  ThreadPool* pool_ = nullptr;
  CancelSource cancel_;
  Mutex mu_;
  std::shared_ptr<ExecStream> self_;  // changed only before start and in OnDone
  CondVar room_;
  std::shared_ptr<Bridge> bridge_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, RunningProcess> processes_ ABSL_GUARDED_BY(mu_);
  std::deque<pbf::ExecMessage> output_ ABSL_GUARDED_BY(mu_);
  size_t queued_output_ ABSL_GUARDED_BY(mu_) = 0;
  bool reading_ ABSL_GUARDED_BY(mu_) = false, half_closed_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false, finished_ ABSL_GUARDED_BY(mu_) = false;
  pbf::ExecMessage incoming_, outgoing_;  // gRPC's between Start* and its reaction
};

}  // namespace

grpc::ServerBidiReactor<pbf::ExecMessage, pbf::ExecMessage>* OpenExecStream(
    ThreadPool* pool,
    std::function<absl::StatusOr<std::shared_ptr<Bridge>>(const CancelToken&)> find) {
  return ExecStream::Open(pool, std::move(find));
}

}  // namespace kiln::daemon
