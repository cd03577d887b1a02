#include "daemon/control/history.h"

#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/attest/provenance_options.h"
#include "daemon/control/build_provenance.h"
#include "daemon/control/kept_image.h"
#include "daemon/control/status_reader.h"
#include "daemon/control/wire_time.h"
#include "daemon/exporter/known_layers.h"
#include "daemon/image/media_types.h"
#include "proto/buildkit/control.pb.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

namespace pbc = moby::buildkit::v1;

constexpr char kRowVersion = 1;
constexpr char kLogsType[] = "application/vnd.buildkit.status.v0";
constexpr char kErrorType[] = "application/vnd.googeapis.google.rpc.status+proto";  // (sic)
constexpr uint32_t kMaxMessageBytes = 64 << 20;
constexpr absl::Duration kLater = absl::Milliseconds(50);

std::string LeaseOf(absl::string_view ref) { return absl::StrCat("history/", ref); }

absl::Status Missing(absl::string_view ref) {
  return absl::NotFoundError(absl::StrCat("failed to retrieve ref ", ref, ": file does not exist"));
}

// Whether a proto3 string takes it.
bool IsText(const std::string& bytes) {
  try {
    return !nlohmann::json(bytes).dump().empty();
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

pbc::BuildHistoryRecord Begun(const Build& build) {
  pbc::BuildHistoryRecord record;
  record.set_ref(build.ref);
  record.set_frontend(build.frontend);
  for (const auto& [key, value] : build.frontend_attrs) {
    // It may hold keys of object stores, and the history is there for every client.
    if (key != "cache-imports") (*record.mutable_frontendattrs())[key] = value;
  }
  for (const auto& [type, attrs] : build.exporters) {
    auto* exporter = record.add_exporters();
    exporter->set_type(type);
    for (const auto& [key, value] : attrs)
      if (key != kKnownLayers) (*exporter->mutable_attrs())[key] = value;
  }
  SetTimestamp(build.created_at, record.mutable_createdat());
  return record;
}

// Steps by digest, as the status stream tells of them.
class StepCounts {
 public:
  void Add(const pbc::StatusResponse& message) {
    for (const pbc::Vertex& vertex : message.vertexes()) {
      Step& step = steps_[vertex.digest()];
      step.cached = step.cached || vertex.cached();
      step.completed = step.completed || vertex.has_completed();
    }
    warnings_ += message.warnings_size();
  }
  void Fill(pbc::BuildHistoryRecord* record) const {
    int cached = 0, completed = 0;
    for (const auto& [digest, step] : steps_) {
      cached += step.cached;
      completed += step.completed;
    }
    record->set_numtotalsteps(static_cast<int>(steps_.size()));
    record->set_numcachedsteps(cached);
    record->set_numcompletedsteps(completed);
    record->set_numwarnings(warnings_);
  }

 private:
  struct Step {
    bool cached = false, completed = false;
  };
  std::map<std::string, Step> steps_;
  int warnings_ = 0;
};

void FillOutcome(const BuildEnd& end, pbc::BuildHistoryRecord* record) {
  SetTimestamp(end.completed_at, record->mutable_completedat());
  for (const auto& [key, value] : end.result_metadata)
    if (IsText(value)) (*record->mutable_exporterresponse())[key] = value;
  for (const auto& [exporter, root] : end.roots) {
    pbc::Descriptor& out = (*record->mutable_result()->mutable_results())[exporter];
    out.set_media_type(root.media_type);
    out.set_digest(root.digest.ToString());
    out.set_size(root.size_bytes);
    for (const auto& [key, value] : root.annotations) (*out.mutable_annotations())[key] = value;
  }
  // Where clients look that know of one exporter only.
  if (!end.roots.empty())
    *record->mutable_result()->mutable_resultdeprecated() =
        record->result().results().at(end.roots.begin()->first);
  if (end.status.ok()) return;
  record->mutable_error()->set_code(static_cast<int>(end.status.code()));
  record->mutable_error()->set_message(std::string(end.status.message()));
}

// A row's record. kDataLoss when it is none.
absl::StatusOr<pbc::BuildHistoryRecord> Decode(absl::string_view row) {
  pbc::BuildHistoryRecord record;
  if (row.empty() || row[0] != kRowVersion ||
      !record.ParseFromArray(row.data() + 1, static_cast<int>(row.size() - 1)))
    return absl::DataLossError("a build record that cannot be read");
  return record;
}

}  // namespace

absl::StatusOr<bool> StatusReplay::Read(pbc::StatusResponse* out) {
  const auto read_all = [this](char* data, size_t size) -> absl::StatusOr<size_t> {
    size_t have = 0;
    while (have < size) {
      const ssize_t got = read(file_.get(), data + have, size - have);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoStatus(errno, "read a kept status stream");
      if (got == 0) break;
      have += got;
    }
    return have;
  };
  unsigned char header[4];
  KILN_ASSIGN_OR_RETURN(const size_t got,
                        read_all(reinterpret_cast<char*>(header), sizeof(header)));
  if (got == 0) return false;
  const uint32_t size =
      header[0] | header[1] << 8 | header[2] << 16 | static_cast<uint32_t>(header[3]) << 24;
  if (got < sizeof(header) || size > kMaxMessageBytes)
    return absl::DataLossError("a kept status stream is damaged");
  std::string bytes(size, '\0');
  KILN_ASSIGN_OR_RETURN(const size_t body, read_all(bytes.data(), size));
  if (body < size || !out->ParseFromString(bytes))
    return absl::DataLossError("a kept status stream is damaged");
  return true;
}

bool StatusReplay::Next(pbc::StatusResponse* out) {
  const absl::StatusOr<bool> more = Read(out);
  if (more.ok()) return *more;
  status_ = more.status();
  return false;
}

BuildHistory::BuildHistory(store::Database* database, store::BlobStore* blobs, HistoryLimits limits)
    : database_(database), blobs_(blobs), limits_(limits), thread_([this] { Run(); }) {}

BuildHistory::~BuildHistory() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    hurry_.SignalAll();
  }
  thread_.join();
}

void BuildHistory::Run() {
  ::pthread_setname_np(::pthread_self(), "kiln-history");
  for (;;) {
    std::optional<Ending> next;
    {
      MutexLock lock(&mu_);
      while (endings_.empty() && !stopping_) hurry_.Wait(&mu_);
      if (endings_.empty()) return;
      while (!stopping_ && waiting_ == 0 && !endings_.front().due.Passed())
        hurry_.WaitUntil(&mu_, endings_.front().due);
      next = std::move(endings_.front());
      endings_.pop_front();
    }
    KeepNow(next->build, std::move(next->end));
  }
}

void BuildHistory::Started(const BuildPtr& build) {
  if (build->internal) return;
  const Event event = {EventType::kStarted, build->ref,
                       std::make_shared<const std::string>(Begun(*build).SerializeAsString())};
  WaitFor(build->ref);
  MutexLock lock(&mu_);
  running_[build->ref] = event;
  TellLocked(event);
}

void BuildHistory::Ended(const BuildPtr& build, const BuildEnd& end) {
  if (build->internal) return;
  {
    MutexLock lock(&mu_);
    running_.erase(build->ref);
    keeping_.insert(build->ref);
  }
  pbc::BuildHistoryRecord record = Begun(*build);
  FillOutcome(end, &record);
  record.clear_result();  // held by the whole record only
  const absl::Status put = Put(record);
  if (!put.ok()) spdlog::error("note the end of build {}: {}", build->ref, put.ToString());
}

void BuildHistory::Keep(const BuildPtr& build, BuildEnd end) {
  if (build->internal) return;
  MutexLock lock(&mu_);
  endings_.push_back({build, std::move(end), Deadline(kLater)});
  hurry_.SignalAll();
}

void BuildHistory::KeepNow(const BuildPtr& build, BuildEnd end) {
  pbc::BuildHistoryRecord record = Begun(*build);
  FillOutcome(end, &record);
  {
    MutexLock change(&change_mu_);
    const absl::Status kept = Write(build, end, &record);
    if (!kept.ok()) spdlog::error("keep the record of build {}: {}", build->ref, kept.ToString());
    MutexLock lock(&mu_);
    TellLocked({EventType::kComplete, build->ref,
                std::make_shared<const std::string>(record.SerializeAsString())});
  }
  Collect();
  end.holds.clear();
  MutexLock lock(&mu_);
  keeping_.erase(build->ref);
  kept_.SignalAll();
}

void BuildHistory::WaitFor(absl::string_view ref) const {
  MutexLock lock(&mu_);
  ++waiting_;
  hurry_.SignalAll();
  while (keeping_.find(std::string(ref)) != keeping_.end()) kept_.Wait(&mu_);
  --waiting_;
}

void BuildHistory::WaitUntilKept() const {
  std::vector<std::string> refs;
  {
    MutexLock lock(&mu_);
    refs.assign(keeping_.begin(), keeping_.end());
  }
  for (const std::string& ref : refs) WaitFor(ref);
}

absl::Status BuildHistory::KeepLogs(const BuildPtr& build, const std::string& lease,
                                    pbc::BuildHistoryRecord* record) {
  KILN_ASSIGN_OR_RETURN(const auto writer, blobs_->Ingest({}, lease));
  StatusReader reader(build);
  StepCounts counts;
  pbc::StatusResponse message;
  bool ended = false;
  while (reader.Next(&message, &ended)) {
    counts.Add(message);
    const std::string bytes = message.SerializeAsString();
    const uint32_t size = static_cast<uint32_t>(bytes.size());
    const char header[4] = {static_cast<char>(size), static_cast<char>(size >> 8),
                            static_cast<char>(size >> 16), static_cast<char>(size >> 24)};
    KILN_RETURN_IF_ERROR(writer->Append(absl::string_view(header, sizeof(header))));
    KILN_RETURN_IF_ERROR(writer->Append(bytes));
  }
  counts.Fill(record);
  const int64_t size = writer->size_bytes();
  KILN_ASSIGN_OR_RETURN(const Digest digest, writer->Commit());
  record->mutable_logs()->set_media_type(kLogsType);
  record->mutable_logs()->set_digest(digest.ToString());
  record->mutable_logs()->set_size(size);
  return absl::OkStatus();
}

absl::Status BuildHistory::KeepBlob(const std::string& bytes, const char* media_type,
                                    const std::string& lease, pbc::Descriptor* descriptor) {
  KILN_ASSIGN_OR_RETURN(const auto writer, blobs_->Ingest({}, lease));
  KILN_RETURN_IF_ERROR(writer->Append(bytes));
  KILN_ASSIGN_OR_RETURN(const Digest digest, writer->Commit());
  descriptor->set_media_type(media_type);
  descriptor->set_digest(digest.ToString());
  descriptor->set_size(static_cast<int64_t>(bytes.size()));
  return absl::OkStatus();
}

absl::Status BuildHistory::KeepProvenance(const BuildEnd& end, const std::string& lease,
                                          pbc::BuildHistoryRecord* record) {
  if (end.provenance == nullptr) return absl::OkStatus();
  const auto predicates = end.provenance->ForHistory();
  if (!predicates.ok()) {
    spdlog::error("provenance of build {}: {}", record->ref(), predicates.status().ToString());
    return absl::OkStatus();
  }
  for (const auto& [platform, predicate] : *predicates) {
    pbc::BuildResultInfo* const info =
        platform.empty() ? record->mutable_result() : &(*record->mutable_results())[platform];
    pbc::Descriptor* const descriptor = info->add_attestations();
    KILN_RETURN_IF_ERROR(KeepBlob(predicate, kInToto, lease, descriptor));
    (*descriptor->mutable_annotations())["in-toto.io/predicate-type"] =
        ProvenanceOptions().predicate_type();
  }
  return absl::OkStatus();
}

absl::Status BuildHistory::Write(const BuildPtr& build, const BuildEnd& end,
                                 pbc::BuildHistoryRecord* record) {
  const std::string lease = LeaseOf(build->ref);
  // A ref may be used again: what it was before goes.
  KILN_RETURN_IF_ERROR(blobs_->DropLease(lease));
  KILN_RETURN_IF_ERROR(KeepLogs(build, lease, record));
  if (!end.status.ok())
    KILN_RETURN_IF_ERROR(
        KeepBlob(SerializeStatus(end.status), kErrorType, lease, record->mutable_externalerror()));
  KILN_RETURN_IF_ERROR(KeepProvenance(end, lease, record));
  // What was made stays readable with the record.
  for (const auto& [exporter, root] : end.roots)
    KILN_RETURN_IF_ERROR(HoldImageDocuments(*blobs_, lease, root));
  record->set_generation(1);
  return Put(*record);
}

absl::Status BuildHistory::Put(const pbc::BuildHistoryRecord& record) {
  store::Batch batch;
  batch.Put(store::Family::kHistory, record.ref(),
            absl::StrCat(std::string(1, kRowVersion), record.SerializeAsString()));
  return database_->Write(batch);
}

absl::StatusOr<std::string> BuildHistory::Get(absl::string_view ref) const {
  WaitFor(ref);
  return GetKept(ref);
}

absl::StatusOr<std::string> BuildHistory::GetKept(absl::string_view ref) const {
  KILN_ASSIGN_OR_RETURN(const auto row, database_->Get(store::Family::kHistory, ref));
  if (!row.has_value()) return Missing(ref);
  KILN_RETURN_IF_ERROR(Decode(*row).status());
  return row->substr(1);
}

absl::StatusOr<std::vector<std::string>> BuildHistory::List() const {
  WaitUntilKept();
  return ListKept();
}

absl::StatusOr<std::vector<std::string>> BuildHistory::ListKept() const {
  std::vector<std::string> records;
  store::Cursor cursor = database_->Scan(store::Family::kHistory, "");
  for (; cursor.Valid(); cursor.Next())
    if (Decode(cursor.value()).ok()) records.emplace_back(cursor.value().substr(1));
  KILN_RETURN_IF_ERROR(cursor.status());
  return records;
}

absl::StatusOr<std::unique_ptr<StatusReplay>> BuildHistory::OpenLogs(absl::string_view ref) const {
  KILN_ASSIGN_OR_RETURN(const std::string bytes, Get(ref));
  pbc::BuildHistoryRecord record;
  record.ParseFromString(bytes);
  if (!record.has_logs())
    return absl::DataLossError(
        absl::StrCat("the status of build ", ref, " is lost: the daemon died when it had ended"));
  KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(record.logs().digest()));
  KILN_ASSIGN_OR_RETURN(Fd file, blobs_->OpenBlob(digest));
  return std::make_unique<StatusReplay>(std::move(file));
}

absl::Status BuildHistory::SetPinned(const std::string& ref, bool pinned) {
  WaitFor(ref);
  MutexLock change(&change_mu_);
  KILN_ASSIGN_OR_RETURN(const std::string bytes, GetKept(ref));
  pbc::BuildHistoryRecord record;
  record.ParseFromString(bytes);
  record.set_pinned(pinned);
  record.set_generation(record.generation() + 1);
  KILN_RETURN_IF_ERROR(Put(record));
  MutexLock lock(&mu_);
  if (!pinned) collect_at_ = absl::InfinitePast();
  TellLocked(
      {EventType::kComplete, ref, std::make_shared<const std::string>(record.SerializeAsString())});
  return absl::OkStatus();
}

absl::Status BuildHistory::Delete(const std::string& ref) {
  WaitFor(ref);
  return DeleteKept(ref);
}

absl::Status BuildHistory::DeleteKept(const std::string& ref) {
  MutexLock change(&change_mu_);
  KILN_ASSIGN_OR_RETURN(const bool known, database_->Has(store::Family::kHistory, ref));
  if (!known) return absl::OkStatus();
  // The row first: a record always has its blobs.
  store::Batch batch;
  batch.Delete(store::Family::kHistory, ref);
  KILN_RETURN_IF_ERROR(database_->Write(batch));
  KILN_RETURN_IF_ERROR(blobs_->DropLease(LeaseOf(ref)));
  pbc::BuildHistoryRecord record;
  record.set_ref(ref);
  MutexLock lock(&mu_);
  TellLocked(
      {EventType::kDeleted, ref, std::make_shared<const std::string>(record.SerializeAsString())});
  return absl::OkStatus();
}

// O(records); few beyond the limit are ever there, as every build's end looks.
void BuildHistory::Collect() {
  {
    MutexLock lock(&mu_);
    if (absl::Now() < collect_at_) return;
    collect_at_ = absl::InfiniteFuture();
  }
  // Whoever unpins a record meanwhile has it done again.
  const absl::StatusOr<absl::Time> next = DeleteTooOld();
  if (!next.ok()) spdlog::warn("the history of builds: {}", next.status().ToString());
  MutexLock lock(&mu_);
  collect_at_ = std::min(collect_at_, next.ok() ? *next : absl::InfinitePast());
}

absl::StatusOr<absl::Time> BuildHistory::DeleteTooOld() {
  const absl::Time now = absl::Now();
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> records, ListKept());
  std::vector<std::pair<int64_t, std::string>> by_age;  // unpinned: completed in seconds, ref
  for (const std::string& bytes : records) {
    pbc::BuildHistoryRecord record;
    record.ParseFromString(bytes);
    if (!record.pinned()) by_age.emplace_back(record.completedat().seconds(), record.ref());
  }
  std::sort(by_age.rbegin(), by_age.rend());
  const int64_t too_old = absl::ToUnixSeconds(now - limits_.max_age);
  // Of those that stay, whatever lets them, and those still to come.
  int64_t oldest = absl::ToUnixSeconds(now);
  for (size_t i = 0; i < by_age.size(); ++i) {
    if (i < limits_.keep || by_age[i].first > too_old) {
      oldest = std::min(oldest, by_age[i].first);
    } else {
      KILN_RETURN_IF_ERROR(Annotate(DeleteKept(by_age[i].second),
                                    absl::StrCat("delete the record of build ", by_age[i].second)));
    }
  }
  return absl::FromUnixSeconds(oldest) + limits_.max_age;
}

uint64_t BuildHistory::Listen(Listener listener) {
  MutexLock lock(&mu_);
  for (const auto& [ref, event] : running_) listener(event);
  listeners_.emplace(next_listener_, std::move(listener));
  return next_listener_++;
}

void BuildHistory::StopListening(uint64_t id) {
  MutexLock lock(&mu_);
  listeners_.erase(id);
}

void BuildHistory::TellLocked(const Event& event) {
  for (const auto& [id, listener] : listeners_) listener(event);
}

}  // namespace kiln::daemon
