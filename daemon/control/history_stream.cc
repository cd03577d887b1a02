#include <google/protobuf/timestamp.pb.h>
#include <grpcpp/server_context.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/control/history_filter.h"
#include "daemon/control/status_stream.h"
#include "daemon/rpc/status.h"
#include "proto/buildkit/control.pb.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

namespace pbc = moby::buildkit::v1;

pbc::BuildHistoryEvent ToEvent(BuildHistory::EventType type, const std::string& record) {
  pbc::BuildHistoryEvent event;
  event.set_type(static_cast<pbc::BuildHistoryEventType>(type));
  event.mutable_record()->ParseFromString(record);
  return event;
}

// The records that the query wants, oldest first; with a limit the newest ones, newest first.
absl::StatusOr<std::vector<pbc::BuildHistoryEvent>> Records(const BuildHistory& history,
                                                            const HistoryQuery& query) {
  if (query.limit < 0)
    return absl::InvalidArgumentError(absl::StrCat("invalid limit ", query.limit));
  const absl::Time now = absl::Now();
  KILN_ASSIGN_OR_RETURN(const HistoryFilter filter, HistoryFilter::Parse(query.filters, now));
  std::vector<pbc::BuildHistoryEvent> events;
  if (query.active_only) return events;
  std::vector<std::string> records;
  if (query.ref.empty()) {
    KILN_ASSIGN_OR_RETURN(records, history.List());
  } else {
    auto record = history.Get(query.ref);
    if (!record.ok() && !absl::IsNotFound(record.status())) return record.status();
    if (record.ok()) records.push_back(*std::move(record));
  }
  for (const std::string& record : records) {
    pbc::BuildHistoryEvent event = ToEvent(BuildHistory::EventType::kComplete, record);
    if (filter.Matches(event.record(), now)) events.push_back(std::move(event));
  }
  const auto created = [](const pbc::BuildHistoryEvent& event) {
    return std::pair(event.record().createdat().seconds(), event.record().createdat().nanos());
  };
  std::sort(events.begin(), events.end(),
            [&](const auto& a, const auto& b) { return created(a) < created(b); });
  if (query.limit == 0) return events;
  std::reverse(events.begin(), events.end());
  if (events.size() > static_cast<size_t>(query.limit)) events.resize(query.limit);
  return events;
}

// A queue of events: what runs, the records, what happens. What happens while the records are read
// waits for them. The history's listener holds it weakly, it holds itself until OnDone.
class HistoryStream : public grpc::ServerWriteReactor<pbc::BuildHistoryEvent> {
 public:
  static HistoryStream* Open(BuildHistory* history, ThreadPool* pool, HistoryQuery query) {
    auto stream = std::make_shared<HistoryStream>();
    HistoryStream* raw = stream.get();
    raw->self_ = stream;
    raw->history_ = history;
    raw->early_exit_ = query.early_exit;
    raw->StartSendInitialMetadata();
    const std::weak_ptr<HistoryStream> weak = stream;
    raw->listener_ = history->Listen([weak, ref = query.ref](const BuildHistory::Event& event) {
      if (!ref.empty() && event.ref != ref) return;
      if (auto self = weak.lock()) self->Push(event);
    });
    pool->Post([stream, query = std::move(query)] { stream->AddRecords(query); });
    return raw;
  }

 private:
  void AddRecords(const HistoryQuery& query) {
    auto records = Records(*history_, query);
    MutexLock lock(&mu_);
    if (!records.ok()) return FinishLocked(records.status());
    for (pbc::BuildHistoryEvent& event : *records) {
      // It may have ended since the listening began; that event comes by itself.
      if (told_.contains(event.record().ref())) continue;
      queue_.push_back(std::move(event));
    }
    for (pbc::BuildHistoryEvent& event : waiting_) queue_.push_back(std::move(event));
    waiting_.clear();
    ready_ = true;
    last_ = early_exit_;
    PumpLocked();
  }

  void Push(const BuildHistory::Event& event) {
    MutexLock lock(&mu_);
    if (last_ || finished_) return;
    const bool running = event.type == BuildHistory::EventType::kStarted;
    // The records, when they are read, tell all that ended before.
    if (early_exit_ && !running) return;
    pbc::BuildHistoryEvent message = ToEvent(event.type, *event.record);
    if (ready_ || running) {
      queue_.push_back(std::move(message));
    } else {
      told_.insert(event.ref);
      waiting_.push_back(std::move(message));
    }
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
    history_->StopListening(listener_);
    self_.reset();
  }

  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (std::exchange(finished_, true)) return;
    Finish(ToGrpc(status));
  }

  std::shared_ptr<HistoryStream> self_;
  BuildHistory* history_ = nullptr;
  bool early_exit_ = false;  // ends after what is there; constant once open
  uint64_t listener_ = 0;
  Mutex mu_;
  std::deque<pbc::BuildHistoryEvent> queue_ ABSL_GUARDED_BY(mu_);
  std::deque<pbc::BuildHistoryEvent> waiting_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> told_ ABSL_GUARDED_BY(mu_);  // refs in waiting_
  bool ready_ ABSL_GUARDED_BY(mu_) = false;          // the records are in the queue
  bool writing_ ABSL_GUARDED_BY(mu_) = false, finished_ ABSL_GUARDED_BY(mu_) = false;
  bool last_ ABSL_GUARDED_BY(mu_) = false;  // nothing is added any more
  pbc::BuildHistoryEvent event_;            // gRPC's while writing_
};

}  // namespace

grpc::ServerWriteReactor<pbc::BuildHistoryEvent>* OpenHistoryStream(
    grpc::CallbackServerContext* context, BuildHistory* history, ThreadPool* pool,
    HistoryQuery query) {
  context->AddInitialMetadata(kTimestampHeader, FormatTimestamp(absl::Now()));
  return HistoryStream::Open(history, pool, std::move(query));
}

}  // namespace kiln::daemon
