#include "daemon/control/status_stream.h"

#include <grpcpp/server_context.h>

#include <memory>
#include <optional>
#include <utility>

#include "daemon/control/status_reader.h"
#include "daemon/rpc/status.h"
#include "proto/buildkit/control.pb.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

namespace {

namespace pbc = moby::buildkit::v1;

// What small messages keep between them: each costs both sides more than what is in it, and builds
// tell of thousands of short steps. Nobody sees the difference: displays are drawn ten times a
// second.
constexpr absl::Duration kPause = absl::Milliseconds(20);
constexpr absl::Duration kFirstPause = absl::Milliseconds(30);  // all of a cached build
constexpr size_t kSmallBytes = 64 << 10;

// Reads the build's logs when they have grown and the last message is out, and the pause after it
// is over or the build is; so what piles up goes out in one message, and nothing is kept per
// client. There is a pause before the first one, too: a cached build is told in one message. A
// build that is only in the history is read from there.
//
// Wake-ups come from any thread and hold the object weakly; it holds itself until OnDone.
class StatusStream : public grpc::ServerWriteReactor<pbc::StatusResponse> {
 public:
  explicit StatusStream(FdLoop* timers) : timers_(timers) {}

  static StatusStream* Open(BuildTable* builds, BuildHistory* history, FdLoop* timers,
                            ThreadPool* pool, std::string ref) {
    auto stream = std::make_shared<StatusStream>(timers);
    StatusStream* raw = stream.get();
    raw->self_ = stream;
    raw->StartSendInitialMetadata();
    pool->Post([stream, builds, history, ref = std::move(ref)] {
      BuildPtr build = builds->Peek(ref);
      if (build == nullptr && history != nullptr) {
        auto replay = history->OpenLogs(ref);
        if (!absl::IsNotFound(replay.status())) return stream->Replay(std::move(replay));
      }
      absl::StatusOr<BuildPtr> found = std::move(build);
      if (*found == nullptr) found = builds->Find(ref, stream->cancel_.token());
      MutexLock lock(&stream->mu_);
      if (!found.ok() || *found == nullptr) return stream->FinishLocked(found.status());
      build = *std::move(found);
      stream->reader_.emplace(build);
      stream->PauseLocked(kFirstPause);
      stream->AwaitEndLocked(build);
    });
    return raw;
  }

 private:
  void Replay(absl::StatusOr<std::unique_ptr<StatusReplay>> replay) {
    MutexLock lock(&mu_);
    if (!replay.ok()) return FinishLocked(replay.status());
    replay_ = *std::move(replay);
    PumpLocked();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) return FinishLocked(absl::CancelledError("client is gone"));
    if (replay_ == nullptr && !over_ && response_.ByteSizeLong() < kSmallBytes)
      return PauseLocked(kPause);
    PumpLocked();
  }

  void OnCancel() override {
    cancel_.Cancel();
    MutexLock lock(&mu_);
    FinishLocked(absl::CancelledError("context canceled"));
  }

  void OnDone() override { self_.reset(); }

  void Woken(bool by_warnings) {
    MutexLock lock(&mu_);
    (by_warnings ? awaiting_warnings_ : awaiting_progress_) = false;
    PumpLocked();
  }

  void PauseLocked(absl::Duration pause) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    paused_ = true;
    timers_->PostAfter(pause, [weak = std::weak_ptr<StatusStream>(self_)] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      MutexLock lock(&self->mu_);
      self->paused_ = false;
      self->PumpLocked();
    });
  }

  // The end is told without a pause.
  void AwaitEndLocked(const BuildPtr& build) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const std::weak_ptr<StatusStream> weak = self_;
    mu_.Unlock();
    build->job->progress().NotifyAt(SIZE_MAX, [weak] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      MutexLock lock(&self->mu_);
      self->over_ = true;
      self->PumpLocked();
    });
    mu_.Lock();
  }

  void PumpLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_ || writing_ || (paused_ && !over_)) return;
    bool ended = false;
    if (replay_ != nullptr ? replay_->Next(&response_) : reader_->Next(&response_, &ended)) {
      writing_ = true;
      StartWrite(&response_);
    } else if (ended || replay_ != nullptr) {
      FinishLocked(replay_ != nullptr ? replay_->status() : absl::OkStatus());
    } else {
      AwaitLocked();
    }
  }

  // The logs may call back at once, on this thread: that must not happen under the lock.
  void AwaitLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const std::weak_ptr<StatusStream> weak = self_;
    const BuildPtr build = reader_->build();
    const size_t offset = reader_->offset(), warning_offset = reader_->warning_offset();
    const bool progress = !std::exchange(awaiting_progress_, true);
    const bool warnings = !std::exchange(awaiting_warnings_, true);
    mu_.Unlock();
    if (warnings) {
      build->warnings->NotifyAt(warning_offset, [weak] {
        if (auto self = weak.lock()) self->Woken(/*by_warnings=*/true);
      });
    }
    if (progress) {
      build->job->progress().NotifyAt(offset, [weak] {
        if (auto self = weak.lock()) self->Woken(/*by_warnings=*/false);
      });
    }
    mu_.Lock();
  }

  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (std::exchange(finished_, true)) return;
    Finish(ToGrpc(status));
  }

  FdLoop* const timers_;
  std::shared_ptr<StatusStream> self_;
  CancelSource cancel_;
  Mutex mu_;
  std::optional<StatusReader> reader_ ABSL_GUARDED_BY(mu_);    // of a build that lives; or
  std::unique_ptr<StatusReplay> replay_ ABSL_GUARDED_BY(mu_);  // of one in the history
  bool awaiting_progress_ ABSL_GUARDED_BY(mu_) = false;
  bool awaiting_warnings_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false, finished_ ABSL_GUARDED_BY(mu_) = false;
  bool paused_ ABSL_GUARDED_BY(mu_) = false;
  bool over_ ABSL_GUARDED_BY(mu_) = false;  // the build has ended
  pbc::StatusResponse response_;            // gRPC's while writing_
};

}  // namespace

std::string FormatTimestamp(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E9SZ", time, absl::UTCTimeZone());
}

grpc::ServerWriteReactor<pbc::StatusResponse>* OpenStatusStream(
    grpc::CallbackServerContext* context, BuildTable* builds, BuildHistory* history, FdLoop* timers,
    ThreadPool* pool, std::string ref) {
  context->AddInitialMetadata(kTimestampHeader, FormatTimestamp(absl::Now()));
  return StatusStream::Open(builds, history, timers, pool, std::move(ref));
}

}  // namespace kiln::daemon
