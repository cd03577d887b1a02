// The table of records: reading, holding and changing them.
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"
#include "store/ref/node.h"

namespace kiln::store {

using internal::ChildKey;
using internal::IndexRowKey;
using internal::RecordKey;
using internal::SnapshotKey;
using internal::TemporaryKey;

namespace {

absl::Status NoSuchRef(absl::string_view id) {
  return absl::NotFoundError(absl::StrCat("ref ", id, " does not exist"));
}

}  // namespace

absl::StatusOr<LocalRefStore::RefRecord> LocalRefStore::ReadRecord(absl::string_view id) {
  if (!internal::IsId(id)) return NoSuchRef(id);
  KILN_ASSIGN_OR_RETURN(auto row, database_.Get(Family::kRefs, RecordKey(id)));
  if (!row.has_value()) return NoSuchRef(id);
  absl::StatusOr<RefRecord> record = internal::DecodeRecord(*row);
  if (!record.ok()) return Annotate(record.status(), absl::StrCat("ref ", id));
  // Files before index, on create; but a power loss or a hand in the folder may have taken them.
  std::vector<uint64_t> needed;
  if (!record->lazy()) needed = record->layers;
  if (!record->lazy() && record->snapshot != 0) needed.push_back(record->snapshot);
  for (const uint64_t number : needed) {
    KILN_ASSIGN_OR_RETURN(const bool exists, driver_->Exists(number));
    if (exists) continue;
    DropBroken({std::string(id)});
    return NoSuchRef(id);
  }
  return record;
}

absl::StatusOr<LocalRefStore::NodePtr> LocalRefStore::LoadLocked(std::string id) {
  for (;;) {
    auto found = nodes_.find(id);
    if (found != nodes_.end()) {
      if (!found->second->busy) return found->second;
      changed_.Wait(&mu_);
      continue;
    }
    NodePtr node = std::make_shared<Node>(id);
    node->busy = true;
    nodes_.emplace(node->id, node);
    mu_.Unlock();
    absl::StatusOr<RefRecord> record = ReadRecord(id);
    mu_.Lock();
    node->busy = false;
    changed_.SignalAll();
    if (!record.ok()) {
      node->gone = true;
      nodes_.erase(node->id);
      return record.status();
    }
    node->record = std::make_shared<const RefRecord>(*std::move(record));
    node->persisted = true;
    return node;
  }
}

absl::StatusOr<LocalRefStore::NodePtr> LocalRefStore::LoadTwinLocked(const Node& node) {
  for (;;) {
    const std::string id = node.record->twin;
    if (id.empty()) return NodePtr();
    absl::StatusOr<NodePtr> twin = LoadLocked(id);
    // Reopened and committed meanwhile: that this half is gone says nothing of the new one.
    if (node.record->twin != id) continue;
    if (absl::IsNotFound(twin.status())) return NodePtr();
    return twin;
  }
}

absl::StatusOr<LocalRefStore::Pair> LocalRefStore::LoadPairLocked(absl::string_view id,
                                                                  int own_holds) {
  const auto locked = [&] {
    return absl::FailedPreconditionError(absl::StrCat("mutable ref ", id, " is locked"));
  };
  for (;;) {
    Pair pair;
    KILN_ASSIGN_OR_RETURN(pair.mutable_half, LoadLocked(std::string(id)));
    const Node& node = *pair.mutable_half;
    if (!node.record->is_mutable)
      return absl::FailedPreconditionError(absl::StrCat("ref ", id, " is immutable"));
    if (node.writer) return locked();
    KILN_ASSIGN_OR_RETURN(pair.immutable, LoadTwinLocked(node));
    const Node* const twin = pair.immutable.get();
    if (node.busy || node.gone || node.writer) continue;
    if (twin != nullptr && (twin->gone || node.record->twin != twin->id)) continue;
    if (twin != nullptr && (twin->holds > own_holds || twin->making)) return locked();
    return pair;
  }
}

absl::StatusOr<LocalRefStore::RecordPtr> LocalRefStore::Peek(absl::string_view id) {
  MutexLock lock(&mu_);
  KILN_ASSIGN_OR_RETURN(const NodePtr node, LoadLocked(std::string(id)));
  return node->record;
}

RefPtr LocalRefStore::HandleLocked(const NodePtr& node) {
  ++node->holds;
  node->used = true;
  return std::make_shared<LocalRef>(this, node);
}

absl::StatusOr<RefPtr> LocalRefStore::Get(absl::string_view id) {
  MutexLock lock(&mu_);
  KILN_ASSIGN_OR_RETURN(const NodePtr node, LoadLocked(std::string(id)));
  if (node->record->is_mutable)
    return absl::FailedPreconditionError(absl::StrCat("ref ", id, " is mutable"));
  return HandleLocked(node);
}

absl::StatusOr<LocalRefStore::NodePtr> LocalRefStore::NodeOf(const RefPtr& ref) const {
  const auto* local = dynamic_cast<const LocalRef*>(ref.get());
  if (local == nullptr || local->store() != this)
    return absl::InvalidArgumentError(absl::StrCat("ref ", ref->id(), " is of another store"));
  return local->node();
}

void LocalRefStore::EndChange(const NodePtr& node) {
  MutexLock lock(&mu_);
  node->busy = false;
  changed_.SignalAll();
}

absl::Status LocalRefStore::Update(const NodePtr& node,
                                   const std::function<void(RefRecord&, Batch&)>& edit) {
  RefRecord record;
  bool persisted;
  {
    MutexLock lock(&mu_);
    while (node->busy) changed_.Wait(&mu_);
    if (node->gone) return NoSuchRef(node->id);
    node->busy = true;
    record = *node->record;
    persisted = node->persisted;
  }
  Batch batch;
  edit(record, batch);
  absl::Status status;
  if (persisted) {
    batch.Put(Family::kRefs, RecordKey(node->id), internal::EncodeRecord(record));
    status = database_.Write(batch);
  }
  if (status.ok()) {
    auto next = std::make_shared<const RefRecord>(std::move(record));
    MutexLock lock(&mu_);
    if (persisted) NoteSizeChange(node->id, *node->record, *next);
    node->record = std::move(next);
  }
  EndChange(node);
  return Annotate(status, absl::StrCat("ref ", node->id));
}

absl::Status LocalRefStore::Enter(const NodePtr& node, RefRecord record,
                                  const std::function<void(Batch&)>& more_rows) {
  Batch batch;
  PutRecord(batch, node->id, record);
  if (more_rows) more_rows(batch);
  const std::string description = record.description;
  node->record = std::make_shared<const RefRecord>(std::move(record));
  node->persisted = true;
  node->busy = true;
  {
    MutexLock lock(&mu_);
    nodes_.emplace(node->id, node);
  }
  const absl::Status status = database_.Write(batch);
  MutexLock lock(&mu_);
  node->busy = false;
  if (status.ok()) {
    unsized_.insert(node->id);
  } else {
    node->gone = true;
    nodes_.erase(node->id);
  }
  changed_.SignalAll();
  return Annotate(status, absl::StrCat("new ref ", description));
}

void LocalRefStore::PutRecord(Batch& batch, const std::string& id, const RefRecord& record) {
  batch.Put(Family::kRefs, RecordKey(id), internal::EncodeRecord(record));
  for (const std::string& parent : record.parents)
    if (!parent.empty()) batch.Put(Family::kRefs, ChildKey(parent, id), "");
  for (const std::string& key : record.index_keys)
    batch.Put(Family::kRefs, IndexRowKey(key, id), "");
  for (const uint64_t number : {record.snapshot, record.flat})
    if (number != 0) batch.Put(Family::kRefs, SnapshotKey(number), id);
  // What goes with its last holder must be found again by the start after a kill.
  if (!record.retained) batch.Put(Family::kRefs, TemporaryKey(id), "");
  if (record.snapshot != 0 && !record.is_mutable && !record.lazy())
    batch.MarkUnsettled(Family::kRefs, RecordKey(id));
}

void LocalRefStore::EraseRecord(Batch& batch, const std::string& id, const RefRecord& record) {
  batch.Delete(Family::kRefs, RecordKey(id));
  for (const std::string& parent : record.parents)
    if (!parent.empty()) batch.Delete(Family::kRefs, ChildKey(parent, id));
  for (const std::string& key : record.index_keys)
    batch.Delete(Family::kRefs, IndexRowKey(key, id));
  batch.Delete(Family::kRefs, TemporaryKey(id));
  batch.Delete(Family::kUsage, id);
}

void LocalRefStore::EraseSnapshot(Batch& batch, uint64_t number) {
  batch.Delete(Family::kRefs, SnapshotKey(number));
  ChecksumStore::EraseRow(driver_->FilesDir(number), &batch);
}

Layers LocalRefStore::DirsOf(const std::vector<uint64_t>& numbers) const {
  Layers dirs;
  dirs.reserve(numbers.size());
  for (const uint64_t number : numbers) dirs.push_back(driver_->FilesDir(number));
  return dirs;
}

absl::StatusOr<std::vector<std::string>> LocalRefStore::Search(absl::string_view index_key) {
  std::vector<std::pair<absl::Time, std::string>> found;
  Cursor cursor = database_.Scan(Family::kRefs, internal::IndexPrefix(index_key));
  for (; cursor.Valid(); cursor.Next()) {
    std::string id(internal::IdOfKey(cursor.key()));
    KILN_ASSIGN_OR_RETURN(const auto usage, database_.Get(Family::kUsage, id));
    found.emplace_back(
        usage.has_value() ? internal::DecodeUsage(*usage).last_used_at : absl::InfinitePast(),
        std::move(id));
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<std::string> ids;
  for (auto& [used, id] : found) ids.push_back(std::move(id));
  return ids;
}

absl::Status LocalRefStore::SetIndexKey(absl::string_view id, absl::string_view index_key) {
  NodePtr node;
  {
    MutexLock lock(&mu_);
    KILN_ASSIGN_OR_RETURN(node, LoadLocked(std::string(id)));
  }
  return Update(node, [&](RefRecord& record, Batch& batch) {
    auto& keys = record.index_keys;
    if (std::find(keys.begin(), keys.end(), index_key) == keys.end()) keys.emplace_back(index_key);
    batch.Put(Family::kRefs, IndexRowKey(index_key, node->id), "");
  });
}

absl::Status LocalRefStore::SetValue(absl::string_view id, const std::string& name,
                                     absl::string_view value) {
  NodePtr node;
  {
    MutexLock lock(&mu_);
    KILN_ASSIGN_OR_RETURN(node, LoadLocked(std::string(id)));
  }
  return Update(node, [&](RefRecord& record, Batch&) { record.values[name] = std::string(value); });
}

absl::StatusOr<std::string> LocalRefStore::GetValue(absl::string_view id, const std::string& name) {
  KILN_ASSIGN_OR_RETURN(const RecordPtr record, Peek(id));
  auto value = record->values.find(name);
  if (value == record->values.end())
    return absl::NotFoundError(absl::StrCat("ref ", id, " has no value ", name));
  return value->second;
}

absl::Status LocalRefStore::SetRetained(absl::string_view id) {
  NodePtr node;
  {
    MutexLock lock(&mu_);
    KILN_ASSIGN_OR_RETURN(node, LoadLocked(std::string(id)));
    if (node->record->retained && node->persisted) return absl::OkStatus();
  }
  return Update(node, [&](RefRecord& record, Batch& batch) {
    record.retained = true;
    batch.Delete(Family::kRefs, TemporaryKey(node->id));
  });
}

}  // namespace kiln::store
