// The end of holds, records and files.
#include <dirent.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"
#include "store/ref/node.h"

namespace kiln::store {

using internal::ChildPrefix;
using internal::IdOfKey;
using internal::RecordKey;
using internal::SnapshotKey;

namespace {

constexpr size_t kIdleRecords = 8192;  // kept in memory; a few kilobytes each
// Longer than a cached build takes, which releases two dozen refs.
constexpr absl::Duration kSettleLater = absl::Milliseconds(50);

}  // namespace

void LocalRefStore::Release(const NodePtr& node) {
  MutexLock lock(&mu_);
  if (--node->holds > 0 || node->gone) return;
  released_.push_back(node);
  SettleLater();
}

void LocalRefStore::SettleLater() {
  if (std::exchange(settling_, true)) return;
  reaper_.Post([this] { SettleReleased(); });
}

// A kept tree is there for the next Search and Reopen when this returns: whoever comes right after,
// as the next step with the same cache mount does, must not find it locked or unknown and start
// with an empty one. That takes one unsynced write, the first time. Everything else is left to the
// reaper.
void LocalRefStore::ReleaseMutable(const NodePtr& node, bool retain) {
  if (retain) {
    if (absl::Status kept = KeepMutable(node); kept.ok()) {
      MutexLock lock(&mu_);
      node->writer = false;
      changed_.SignalAll();
      used_.push_back(node);
      SettleLater();
      return;
    } else {
      spdlog::warn("keep mutable ref {}: {}", node->id, kept.ToString());
    }
  }
  reaper_.Post([this, node] { DiscardMutable(node); });
}

absl::Status LocalRefStore::KeepMutable(const NodePtr& node) {
  RefRecord record;
  {
    MutexLock lock(&mu_);
    if (node->persisted) return absl::OkStatus();
    record = *node->record;
  }
  Batch batch;
  record.retained = true;
  PutRecord(batch, node->id, record);
  KILN_RETURN_IF_ERROR(database_.Write(batch));
  MutexLock lock(&mu_);
  node->record = std::make_shared<const RefRecord>(std::move(record));
  node->persisted = true;
  return absl::OkStatus();
}

// Runs on the reaper.
void LocalRefStore::DiscardMutable(const NodePtr& node) {
  uint64_t number = 0;
  bool persisted;
  {
    MutexLock lock(&mu_);
    node->writer = false;
    number = node->record->snapshot;
    persisted = node->persisted;
    if (!persisted) {
      node->gone = true;
      nodes_.erase(node->id);
      changed_.SignalAll();
    }
  }
  if (!persisted) {
    RemoveFolder(number);
    return;
  }
  std::vector<std::string> parents;
  absl::StatusOr<Removal> removed = Remove(node->id, /*with_twin=*/true, &parents);
  if (!removed.ok())
    spdlog::warn("remove mutable ref {}: {}", node->id, removed.status().ToString());
  RemoveUnwanted(std::move(parents));
}

// Runs on the reaper: notes the use, then drops what nobody keeps. All that is released within a
// moment is one write, and none of it while a build is waiting.
void LocalRefStore::SettleReleased() {
  std::vector<NodePtr> released, used;
  {
    MutexLock lock(&mu_);
    const absl::Time due = absl::Now() + kSettleLater;
    while (hurries_ == 0 && !stopping_ && hurry_.WaitFor(&mu_, due - absl::Now())) {
    }
    settling_ = false;
    released.swap(released_);
    used.swap(used_);
  }
  used.insert(used.end(), released.begin(), released.end());
  TouchUsage(used);
  std::vector<std::string> unwanted;
  {
    MutexLock lock(&mu_);
    for (const NodePtr& node : released) {
      while (node->busy) changed_.Wait(&mu_);
      if (!node->gone && node->holds == 0 && !node->record->retained && !node->record->is_mutable)
        unwanted.push_back(node->id);
    }
  }
  RemoveUnwanted(std::move(unwanted));
  EvictIdle();
}

// Only the reaper writes usage rows, so reading and writing one needs no lock.
void LocalRefStore::TouchUsage(absl::Span<const NodePtr> nodes) {
  std::vector<std::string> used;
  {
    MutexLock lock(&mu_);
    for (const NodePtr& node : nodes) {
      if (node->gone || !node->used || !node->persisted) continue;
      node->used = false;
      used.push_back(node->id);
    }
  }
  Batch batch;
  for (const std::string& id : used) {
    const absl::StatusOr<std::optional<std::string>> row = database_.Get(Family::kUsage, id);
    if (!row.ok()) continue;  // a use that is not noted does no harm
    internal::Usage usage;
    if (row->has_value()) usage = internal::DecodeUsage(**row);
    usage.last_used_at = absl::Now();
    ++usage.count;
    batch.Put(Family::kUsage, id, internal::EncodeUsage(usage));
  }
  if (batch.empty()) return;
  if (absl::Status status = database_.Write(batch); !status.ok())
    spdlog::debug("note the use of {} refs: {}", used.size(), status.ToString());
}

void LocalRefStore::EvictIdle() {
  MutexLock lock(&mu_);
  if (nodes_.size() <= kIdleRecords) return;
  absl::erase_if(nodes_, [](const auto& item) {
    const Node& node = *item.second;
    // Whoever has the node would otherwise work on another one than those who look the id up.
    return item.second.use_count() == 1 && node.holds == 0 && node.persisted && !node.busy &&
           !node.making && !node.writer;
  });
}

absl::StatusOr<LocalRefStore::Removal> LocalRefStore::Remove(absl::string_view id, bool with_twin,
                                                             std::vector<std::string>* parents) {
  NodePtr node, twin;
  RefRecord record, twin_record;
  {
    MutexLock lock(&mu_);
    for (;;) {
      KILN_ASSIGN_OR_RETURN(node, LoadLocked(std::string(id)));
      KILN_ASSIGN_OR_RETURN(twin, LoadTwinLocked(*node));
      if (!node->busy && !node->gone &&
          (twin == nullptr || (!twin->gone && node->record->twin == twin->id)))
        break;
    }
    auto in_use = [](const Node& n) { return n.holds > 0 || n.writer || n.making; };
    if (in_use(*node) || (twin != nullptr && in_use(*twin))) return Removal::kInUse;
    node->busy = true;
    record = *node->record;
    if (twin != nullptr) {
      twin->busy = true;
      twin_record = *twin->record;
    }
  }
  const bool takes_twin = twin != nullptr && with_twin;
  auto has_children = [&](const std::string& parent) {
    return database_.Scan(Family::kRefs, ChildPrefix(parent)).Valid();
  };
  absl::Status status;
  Removal result = Removal::kHasChildren;
  if (!has_children(node->id) && !(takes_twin && has_children(twin->id))) {
    result = Removal::kRemoved;
    Batch batch;
    EraseRecord(batch, node->id, record);
    const bool takes_files = twin == nullptr || with_twin;
    if (takes_files) {
      for (const uint64_t number : {record.snapshot, record.flat})
        if (number != 0) EraseSnapshot(batch, number);
      if (LayerBacking* const backing = backing_; backing != nullptr && record.snapshot != 0)
        status = backing->Erase(record.snapshot, batch);
    }
    if (takes_twin) {
      EraseRecord(batch, twin->id, twin_record);
    } else if (twin != nullptr) {
      twin_record.twin.clear();
      batch.Put(Family::kRefs, RecordKey(twin->id), internal::EncodeRecord(twin_record));
    }
    if (status.ok()) status = database_.Write(batch);
  }
  {
    MutexLock lock(&mu_);
    node->busy = false;
    if (twin != nullptr) twin->busy = false;
    if (result == Removal::kRemoved && status.ok()) {
      node->gone = true;
      nodes_.erase(node->id);
      unsized_.erase(node->id);
      const RefRecord& counted = takes_twin && twin_record.is_mutable ? twin_record : record;
      if ((twin == nullptr || with_twin) && counted.size_bytes > 0)
        known_bytes_ -= counted.size_bytes;
      if (takes_twin) {
        twin->gone = true;
        nodes_.erase(twin->id);
      } else if (twin != nullptr) {
        twin->record = std::make_shared<const RefRecord>(twin_record);
      }
    }
    changed_.SignalAll();
  }
  KILN_RETURN_IF_ERROR(Annotate(status, absl::StrCat("remove ref ", id)));
  if (result != Removal::kRemoved) return result;
  if (on_removed_) {
    if (!record.is_mutable) on_removed_(node->id);
    if (takes_twin && !twin_record.is_mutable) on_removed_(twin->id);
  }
  if (parents != nullptr) {
    for (const std::string& parent : record.parents)
      if (!parent.empty()) parents->push_back(parent);
  }
  if (twin == nullptr || with_twin) {
    RemoveFolder(record.snapshot);
    RemoveFolder(record.flat);
  }
  return result;
}

// Removes the immutables among `ids` that nobody keeps, then their parents likewise.
void LocalRefStore::RemoveUnwanted(std::vector<std::string> ids) {
  while (!ids.empty()) {
    const std::string id = std::move(ids.back());
    ids.pop_back();
    absl::StatusOr<RecordPtr> record = Peek(id);
    if (!record.ok() || (*record)->retained || (*record)->is_mutable) continue;
    absl::StatusOr<Removal> removed = Remove(id, /*with_twin=*/false, &ids);
    if (!removed.ok() && !absl::IsNotFound(removed.status()))
      spdlog::warn("remove ref {}: {}", id, removed.status().ToString());
  }
}

// Drops records whose files are missing, with everything made from them. Held ones stay: their
// holders see the error when they touch the files.
void LocalRefStore::DropBroken(std::vector<std::string> ids) {
  absl::flat_hash_set<std::string> seen(ids.begin(), ids.end());
  while (!ids.empty()) {
    const std::string id = std::move(ids.back());
    ids.pop_back();
    {
      MutexLock lock(&mu_);
      auto node = nodes_.find(id);
      if (node != nodes_.end() && (node->second->holds > 0 || node->second->writer)) continue;
      if (node != nodes_.end() && !node->second->busy) {
        node->second->gone = true;
        nodes_.erase(node);
      }
    }
    Cursor children = database_.Scan(Family::kRefs, ChildPrefix(id));
    for (; children.Valid(); children.Next()) {
      std::string child(IdOfKey(children.key()));
      if (seen.insert(child).second) ids.push_back(std::move(child));
    }
    absl::StatusOr<std::optional<std::string>> row = database_.Get(Family::kRefs, RecordKey(id));
    if (!row.ok() || !row->has_value()) continue;
    absl::StatusOr<RefRecord> record = internal::DecodeRecord(**row);
    Batch batch;
    EraseRecord(batch, id, record.ok() ? *record : RefRecord());
    std::vector<uint64_t> folders;
    if (record.ok()) {
      for (const uint64_t number : {record->snapshot, record->flat})
        if (number != 0) folders.push_back(number);
      // The two halves of a pair share their files.
      if (!record->twin.empty() && seen.insert(record->twin).second) ids.push_back(record->twin);
    }
    absl::Status status;
    for (const uint64_t number : folders) {
      EraseSnapshot(batch, number);
      if (LayerBacking* const backing = backing_; backing != nullptr)
        status.Update(backing->Erase(number, batch));
    }
    if (status.ok()) status = database_.Write(batch);
    if (!status.ok()) {
      spdlog::warn("drop broken ref {}: {}", id, status.ToString());
      continue;
    }
    spdlog::warn("dropped ref {}: its files, or those of a parent, are missing", id);
    if (on_removed_) on_removed_(id);
    for (const uint64_t number : folders) RemoveFolder(number);
  }
}

// The name goes first, in one step: a folder that is half removed must never look whole again, also
// not after a power loss that took the deletion of its record.
void LocalRefStore::RemoveFolder(uint64_t number) {
  if (number == 0) return;
  checksums_.Forget(driver_->FilesDir(number));
  if (LayerBacking* const backing = backing_; backing != nullptr) backing->Erased(number);
  const std::string folder = driver_->Folder(number), dying = absl::StrCat(folder, ".removed");
  if (::rename(folder.c_str(), dying.c_str()) != 0 && errno != ENOENT)
    spdlog::warn("{}", ErrnoStatus(errno, absl::StrCat("rename ", folder)).ToString());
  if (absl::Status status = RemoveTree(dying); !status.ok())
    spdlog::warn("{}; the next start tries again", status.ToString());
}

}  // namespace kiln::store
