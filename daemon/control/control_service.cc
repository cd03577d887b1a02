#include "daemon/control/control_service.h"

#include <grpcpp/server_context.h>

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/control/status_stream.h"
#include "daemon/control/wire_time.h"
#include "daemon/control/worker.h"
#include "daemon/device/device_registry.h"
#include "daemon/rpc/status.h"
#include "daemon/rpc/unary.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "store/base/status_macros.h"
#include "store/filter.h"

namespace kiln::daemon {

namespace {

namespace pbc = moby::buildkit::v1;
using Context = grpc::CallbackServerContext;

void Fill(const store::UsageInfo& info, pbc::UsageRecord* record) {
  record->set_id(info.id);
  record->set_mutable_(info.is_mutable);
  record->set_inuse(info.in_use);
  record->set_size(info.size_bytes);
  SetTimestamp(info.created_at, record->mutable_createdat());
  if (info.last_used_at != absl::InfinitePast())
    SetTimestamp(info.last_used_at, record->mutable_lastusedat());
  record->set_usagecount(info.usage_count);
  record->set_description(info.description);
  record->set_recordtype(info.record_type);
  record->set_shared(info.shared);
  for (const std::string& parent : info.parents) record->add_parents(parent);
}

// An element "" means that the client gave no filter.
template <typename Field>
std::vector<std::string> Filters(const Field& field) {
  std::vector<std::string> filters;
  for (const std::string& filter : field)
    if (!filter.empty()) filters.push_back(filter);
  return filters;
}

// Fields of a worker that filters may name: id and labels."key".
bool Matches(const store::Filter& filter, const pbc::types::WorkerRecord& record) {
  return filter.Matches([&](absl::Span<const std::string> path) -> std::optional<std::string> {
    if (path.empty()) return std::nullopt;
    if (path[0] == "id") return record.id();
    if (path[0] != "labels") return std::nullopt;
    const auto label = record.labels().find(absl::StrJoin(path.subspan(1), "."));
    if (label == record.labels().end()) return std::nullopt;
    return label->second;
  });
}

// Streams what a pool thread produces. Memory is bounded by the number of removed records.
class PruneStream : public grpc::ServerWriteReactor<pbc::UsageRecord> {
 public:
  using Work = absl::AnyInvocable<absl::Status(
      const CancelToken&, const std::function<void(const store::UsageInfo&)>&)>;

  static PruneStream* Open(ThreadPool* pool, Work work) {
    auto stream = std::make_shared<PruneStream>();
    PruneStream* raw = stream.get();
    raw->self_ = stream;
    pool->Post([stream, work = std::move(work)]() mutable {
      absl::Status status = work(stream->cancel_.token(), [&](const store::UsageInfo& info) {
        MutexLock lock(&stream->mu_);
        Fill(info, &stream->queue_.emplace_back());
        stream->PumpLocked();
      });
      MutexLock lock(&stream->mu_);
      stream->ended_ = true;
      stream->status_ = std::move(status);
      stream->PumpLocked();
    });
    return raw;
  }

 private:
  void PumpLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      record_ = std::move(queue_.front());
      queue_.pop_front();
      writing_ = true;
      StartWrite(&record_);
    } else if (ended_) {
      finished_ = true;
      Finish(ToGrpc(status_));
    }
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) queue_.clear();  // the client is gone; the work still ends
    PumpLocked();
  }
  void OnCancel() override { cancel_.Cancel(); }
  void OnDone() override { self_.reset(); }

  std::shared_ptr<PruneStream> self_;
  CancelSource cancel_;
  Mutex mu_;
  std::deque<pbc::UsageRecord> queue_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false, ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  pbc::UsageRecord record_;  // gRPC's while writing_
};

class ControlService : public pbc::Control::CallbackService {
 public:
  explicit ControlService(ControlDeps deps) : deps_(std::move(deps)) {}

 private:
  grpc::ServerUnaryReactor* Solve(Context*, const pbc::SolveRequest* request,
                                  pbc::SolveResponse* response) override {
    return RunUnary(deps_.builds, [this, request, response](const CancelToken& cancel) {
      return daemon::Solve(deps_.solve, *request, cancel, response);
    });
  }

  grpc::ServerWriteReactor<pbc::StatusResponse>* Status(
      Context* context, const pbc::StatusRequest* request) override {
    return OpenStatusStream(context, deps_.solve.builds, deps_.solve.history, deps_.solve.timers,
                            deps_.calls, request->ref());
  }

  grpc::ServerBidiReactor<pbc::BytesMessage, pbc::BytesMessage>* Session(
      Context* context) override {
    return deps_.session_host->Open(context);
  }

  grpc::ServerUnaryReactor* ListWorkers(Context* context, const pbc::ListWorkersRequest* request,
                                        pbc::ListWorkersResponse* response) override {
    auto filter = store::Filter::Parse(Filters(request->filter()));
    if (!filter.ok()) return AnswerNow(context, filter.status());
    // Emulators are tried, the list of devices is read from files.
    return RunUnary(deps_.calls, [this, filter = *std::move(filter), response](const CancelToken&) {
      auto* record = response->add_record();
      record->ParseFromString(deps_.worker());
      if (!Matches(filter, *record)) {
        response->clear_record();
        return absl::OkStatus();
      }
      if (deps_.devices == nullptr) return absl::OkStatus();
      for (const Device& device : deps_.devices->List()) {
        auto* shown = record->add_cdidevices();
        shown->set_name(device.name);
        shown->set_autoallow(device.auto_allow);
        shown->mutable_annotations()->insert(device.annotations.begin(), device.annotations.end());
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Info(Context* context, const pbc::InfoRequest*,
                                 pbc::InfoResponse* response) override {
    response->mutable_buildkitversion()->ParseFromString(VersionRecord());
    return AnswerNow(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* DiskUsage(Context*, const pbc::DiskUsageRequest* request,
                                      pbc::DiskUsageResponse* response) override {
    return RunUnary(deps_.calls, [this, request, response](const CancelToken&) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(auto usage, deps_.refs->DiskUsage(Filters(request->filter())));
      // Images have no parents and no states that a filter could ask for.
      if (deps_.image_usage != nullptr && request->filter_size() == 0) {
        KILN_ASSIGN_OR_RETURN(const auto images, deps_.image_usage());
        usage.insert(usage.end(), images.begin(), images.end());
      }
      const absl::Duration age = absl::Nanoseconds(request->agelimit());
      for (const store::UsageInfo& info : usage) {
        const absl::Time used = std::max(info.created_at, info.last_used_at);
        if (age > absl::ZeroDuration() && absl::Now() - used < age) continue;
        Fill(info, response->add_record());
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerWriteReactor<pbc::UsageRecord>* Prune(Context*,
                                                    const pbc::PruneRequest* request) override {
    store::PruneOptions options;
    options.filters = Filters(request->filter());
    options.all = request->all();
    options.keep_duration = absl::Nanoseconds(request->keepduration());
    options.reserved_bytes = request->reservedspace();
    options.max_used_bytes = request->maxusedspace();
    options.min_free_bytes = request->minfreespace();
    return PruneStream::Open(
        deps_.calls, [this, options](const CancelToken& cancel,
                                     const std::function<void(const store::UsageInfo&)>& removed) {
          deps_.solve.history->WaitUntilKept();  // who was told of a build's end may prune it
          return deps_.refs->Prune(options, cancel, removed);
        });
  }

  grpc::ServerWriteReactor<pbc::BuildHistoryEvent>* ListenBuildHistory(
      Context* context, const pbc::BuildHistoryRequest* request) override {
    HistoryQuery query;
    query.ref = request->ref();
    query.active_only = request->activeonly();
    query.early_exit = request->earlyexit();
    query.filters.assign(request->filter().begin(), request->filter().end());
    query.limit = request->limit();
    return OpenHistoryStream(context, deps_.solve.history, deps_.calls, std::move(query));
  }

  grpc::ServerUnaryReactor* UpdateBuildHistory(Context*,
                                               const pbc::UpdateBuildHistoryRequest* request,
                                               pbc::UpdateBuildHistoryResponse*) override {
    return RunUnary(deps_.calls, [this, request](const CancelToken&) {
      BuildHistory& history = *deps_.solve.history;
      if (request->delete_()) return history.Delete(request->ref());
      if (request->finalize()) return absl::OkStatus();  // records are whole when they are told
      return history.SetPinned(request->ref(), request->pinned());
    });
  }

  const ControlDeps deps_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeControlService(ControlDeps deps) {
  return std::make_unique<ControlService>(std::move(deps));
}

}  // namespace kiln::daemon
