#include "daemon/control/status_stream.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "daemon/control/wire_time.h"
#include "daemon/rpc/status.h"
#include "proto/buildkit/control.pb.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

namespace {

namespace pbc = moby::buildkit::v1;

constexpr size_t kEventsPerRead = 512;
constexpr size_t kLogBytesPerMessage = 1 << 20;

void Fill(const solver::VertexUpdate& vertex, pbc::Vertex* out) {
  out->set_digest(vertex.digest.ToString());
  for (const Digest& input : vertex.inputs) out->add_inputs(input.ToString());
  out->set_name(vertex.name);
  out->set_cached(vertex.cached);
  if (vertex.started != absl::InfinitePast()) SetTimestamp(vertex.started, out->mutable_started());
  if (vertex.completed != absl::InfinitePast())
    SetTimestamp(vertex.completed, out->mutable_completed());
  out->set_error(vertex.error);
  if (!vertex.progress_group.empty())
    out->mutable_progressgroup()->ParseFromString(vertex.progress_group);
}

void Fill(const solver::VertexStatusUpdate& update, pbc::VertexStatus* out) {
  const solver::StatusUpdate& status = update.status;
  out->set_vertex(update.vertex.ToString());
  out->set_id(status.id);
  out->set_name(status.name);
  out->set_current(status.current);
  out->set_total(status.total);
  SetTimestamp(status.timestamp, out->mutable_timestamp());
  if (status.started != absl::InfinitePast()) SetTimestamp(status.started, out->mutable_started());
  if (status.completed != absl::InfinitePast())
    SetTimestamp(status.completed, out->mutable_completed());
}

void Fill(const solver::VertexLogUpdate& update, pbc::VertexLog* out) {
  out->set_vertex(update.vertex.ToString());
  SetTimestamp(update.log.timestamp, out->mutable_timestamp());
  out->set_stream(update.log.stream);
  out->set_msg(update.log.data);
}

void Fill(const solver::VertexWarningUpdate& update, pbc::VertexWarning* out) {
  const solver::Warning& warning = update.warning;
  out->set_vertex(update.vertex.ToString());
  out->set_level(warning.level);
  out->set_short_(warning.short_text);
  for (const std::string& detail : warning.detail) out->add_detail(detail);
  out->set_url(warning.url);
  if (!warning.source_info.empty()) out->mutable_info()->ParseFromString(warning.source_info);
  for (const std::string& range : warning.ranges) {
    pb::Range* added = out->add_ranges();
    added->ParseFromString(range);
    added->mutable_start();  // clients read both ends unchecked
    added->mutable_end();
  }
}

bool Earlier(const google::protobuf::Timestamp& a, const google::protobuf::Timestamp& b) {
  return std::pair(a.seconds(), a.nanos()) < std::pair(b.seconds(), b.nanos());
}

// Clients take the parts of a message in the order vertexes, statuses, warnings, logs, and expect
// each sorted by time; an absent time sorts first.
void Sort(pbc::StatusResponse* response) {
  auto& vertexes = *response->mutable_vertexes();
  std::stable_sort(
      vertexes.pointer_begin(), vertexes.pointer_end(),
      [](const auto* a, const auto* b) { return Earlier(a->started(), b->started()); });
  auto& statuses = *response->mutable_statuses();
  std::stable_sort(
      statuses.pointer_begin(), statuses.pointer_end(),
      [](const auto* a, const auto* b) { return Earlier(a->timestamp(), b->timestamp()); });
  auto& logs = *response->mutable_logs();
  std::stable_sort(logs.pointer_begin(), logs.pointer_end(), [](const auto* a, const auto* b) {
    return Earlier(a->timestamp(), b->timestamp());
  });
}

// Reads the build's logs whenever they grow and the last message is out; so what piles up while a
// slow client reads goes out in one message, and nothing is kept per client.
//
// Wake-ups come from any thread and hold the object weakly; it holds itself until OnDone.
class StatusStream : public grpc::ServerWriteReactor<pbc::StatusResponse> {
 public:
  static StatusStream* Open(BuildTable* builds, ThreadPool* pool, std::string ref) {
    auto stream = std::make_shared<StatusStream>();
    StatusStream* raw = stream.get();
    raw->self_ = stream;
    raw->StartSendInitialMetadata();
    pool->Post([stream, builds, ref = std::move(ref)] {
      auto build = builds->Find(ref, stream->cancel_.token());
      MutexLock lock(&stream->mu_);
      if (!build.ok()) return stream->FinishLocked(build.status());
      stream->build_ = *std::move(build);
      stream->PumpLocked();
    });
    return raw;
  }

 private:
  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) return FinishLocked(absl::CancelledError("client is gone"));
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

  void PumpLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_ || writing_) return;
    response_.Clear();
    bool ended = false;
    size_t log_bytes = 0;
    solver::ProgressLog& progress = build_->job->progress();
    while (log_bytes < kLogBytesPerMessage) {
      const auto events = progress.Read(offset_, kEventsPerRead, &ended);
      for (const auto& event : events) {
        std::visit([&](const auto& update) { AddLocked(update, &log_bytes); }, *event);
        ++offset_;
        if (log_bytes >= kLogBytesPerMessage) break;
      }
      if (events.size() < kEventsPerRead) break;
      ended = false;
    }
    // After the events: a warning for a vertex that the client has not seen is dropped there.
    for (const auto& warning : build_->warnings->Read(warning_offset_)) {
      Fill(warning, response_.add_warnings());
      ++warning_offset_;
    }
    if (response_.ByteSizeLong() > 0) {
      Sort(&response_);
      writing_ = true;
      StartWrite(&response_);
    } else if (ended) {
      FinishLocked(absl::OkStatus());
    } else {
      AwaitLocked();
    }
  }

  void AddLocked(const solver::VertexUpdate& update, size_t*) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Fill(update, response_.add_vertexes());
  }
  void AddLocked(const solver::VertexStatusUpdate& update, size_t*)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Fill(update, response_.add_statuses());
  }
  void AddLocked(const solver::VertexLogUpdate& update, size_t* log_bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    *log_bytes += update.log.data.size();
    Fill(update, response_.add_logs());
  }
  void AddLocked(const solver::VertexWarningUpdate& update, size_t*)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Fill(update, response_.add_warnings());
  }

  // The logs may call back at once, on this thread: that must not happen under the lock.
  void AwaitLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const std::weak_ptr<StatusStream> weak = self_;
    const BuildPtr build = build_;
    const size_t offset = offset_, warning_offset = warning_offset_;
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

  std::shared_ptr<StatusStream> self_;
  CancelSource cancel_;
  Mutex mu_;
  BuildPtr build_ ABSL_GUARDED_BY(mu_);
  size_t offset_ ABSL_GUARDED_BY(mu_) = 0, warning_offset_ ABSL_GUARDED_BY(mu_) = 0;
  bool awaiting_progress_ ABSL_GUARDED_BY(mu_) = false;
  bool awaiting_warnings_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false, finished_ ABSL_GUARDED_BY(mu_) = false;
  pbc::StatusResponse response_;  // gRPC's while writing_
};

}  // namespace

std::string FormatTimestamp(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E9SZ", time, absl::UTCTimeZone());
}

grpc::ServerWriteReactor<pbc::StatusResponse>* OpenStatusStream(
    grpc::CallbackServerContext* context, BuildTable* builds, ThreadPool* pool, std::string ref) {
  context->AddInitialMetadata(kTimestampHeader, FormatTimestamp(absl::Now()));
  return StatusStream::Open(builds, pool, std::move(ref));
}

}  // namespace kiln::daemon
