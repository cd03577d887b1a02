#include <grpcpp/server_context.h>

#include <deque>
#include <memory>
#include <utility>

#include "daemon/control/status_stream.h"
#include "daemon/control/wire_time.h"
#include "daemon/rpc/status.h"
#include "proto/buildkit/control.pb.h"
#include "proto/status_details.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

namespace {

namespace pbc = moby::buildkit::v1;

pbc::BuildHistoryEvent ToEvent(const Build& build, const BuildEnd* end) {
  pbc::BuildHistoryEvent event;
  event.set_type(end == nullptr ? pbc::STARTED : pbc::COMPLETE);
  pbc::BuildHistoryRecord& record = *event.mutable_record();
  record.set_ref(build.ref);
  record.set_frontend(build.frontend);
  for (const auto& [key, value] : build.frontend_attrs)
    (*record.mutable_frontendattrs())[key] = value;
  for (const auto& [type, attrs] : build.exporters) {
    auto* exporter = record.add_exporters();
    exporter->set_type(type);
    for (const auto& [key, value] : attrs) (*exporter->mutable_attrs())[key] = value;
  }
  SetTimestamp(build.created_at, record.mutable_createdat());
  const solver::JobStats stats = build.job->stats();
  record.set_numtotalsteps(static_cast<int32_t>(stats.vertices));
  record.set_numcachedsteps(static_cast<int32_t>(stats.cached));
  if (end == nullptr) return event;
  SetTimestamp(end->completed_at, record.mutable_completedat());
  for (const auto& [key, value] : end->exporter_response)
    (*record.mutable_exporterresponse())[key] = value;
  if (!end->status.ok()) {
    record.mutable_error()->set_code(static_cast<int>(end->status.code()));
    record.mutable_error()->set_message(std::string(end->status.message()));
  }
  return event;
}

// A queue of events; the table's listener holds it weakly, it holds itself until OnDone.
class HistoryStream : public grpc::ServerWriteReactor<pbc::BuildHistoryEvent> {
 public:
  static HistoryStream* Open(BuildTable* builds, HistoryQuery query) {
    auto stream = std::make_shared<HistoryStream>();
    HistoryStream* raw = stream.get();
    raw->self_ = stream;
    raw->builds_ = builds;
    raw->StartSendInitialMetadata();
    const std::weak_ptr<HistoryStream> weak = stream;
    raw->listener_ =
        builds->AddListener([weak, ref = query.ref](const BuildPtr& build, const BuildEnd* end) {
          if (build->internal || (!ref.empty() && build->ref != ref)) return;
          if (auto self = weak.lock()) self->Push(ToEvent(*build, end));
        });
    MutexLock lock(&raw->mu_);
    if (query.early_exit) raw->last_ = true;
    raw->PumpLocked();
    return raw;
  }

 private:
  void Push(pbc::BuildHistoryEvent event) {
    MutexLock lock(&mu_);
    if (last_ || finished_) return;
    queue_.push_back(std::move(event));
    PumpLocked();
  }

  void PumpLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      event_ = std::move(queue_.front());
      queue_.pop_front();
      writing_ = true;
      StartWrite(&event_);
    } else if (last_) {
      FinishLocked(absl::OkStatus());
    }
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) return FinishLocked(absl::CancelledError("client is gone"));
    PumpLocked();
  }

  void OnCancel() override {
    MutexLock lock(&mu_);
    FinishLocked(absl::CancelledError("context canceled"));
  }

  void OnDone() override {
    builds_->RemoveListener(listener_);
    self_.reset();
  }

  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (std::exchange(finished_, true)) return;
    Finish(ToGrpc(status));
  }

  std::shared_ptr<HistoryStream> self_;
  BuildTable* builds_ = nullptr;
  uint64_t listener_ = 0;
  Mutex mu_;
  std::deque<pbc::BuildHistoryEvent> queue_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false, finished_ ABSL_GUARDED_BY(mu_) = false;
  bool last_ ABSL_GUARDED_BY(mu_) = false;  // nothing is added any more
  pbc::BuildHistoryEvent event_;            // gRPC's while writing_
};

}  // namespace

grpc::ServerWriteReactor<pbc::BuildHistoryEvent>* OpenHistoryStream(
    grpc::CallbackServerContext* context, BuildTable* builds, HistoryQuery query) {
  context->AddInitialMetadata(kTimestampHeader, FormatTimestamp(absl::Now()));
  return HistoryStream::Open(builds, std::move(query));
}

}  // namespace kiln::daemon
