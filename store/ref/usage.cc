// Checksums, sizes and usage records (llb.md 5.6).
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "store/base/status_macros.h"
#include "store/filter.h"
#include "store/ref/node.h"
#include "store/ref/usage_list.h"
#include "store/snapshot/changes.h"

namespace kiln::store {

using internal::RefRecord;

absl::StatusOr<Digest> LocalRefStore::Checksum(const RefPtr& ref, absl::string_view path,
                                               const ChecksumOptions& options,
                                               const CancelToken& cancel) {
  Layers layers;
  if (ref != nullptr) {
    KILN_ASSIGN_OR_RETURN(layers, ref->Materialize(cancel));
  }
  return checksums_.Checksum(layers, path, options, cancel);
}

std::optional<Digest> LocalRefStore::KnownChecksum(const RefPtr& ref, absl::string_view path,
                                                   const ChecksumOptions& options) {
  if (ref == nullptr) return std::nullopt;
  const absl::StatusOr<NodePtr> node = NodeOf(ref);
  if (!node.ok()) return std::nullopt;
  Layers layers;
  {
    MutexLock lock(&mu_);
    const RefRecord& record = *(*node)->record;
    if (!record.ready) return std::nullopt;
    layers = DirsOf(record.layers);
  }
  return checksums_.Known(layers, path, options);
}

bool MatchesUsage(const Filter& filter, const UsageInfo& info) {
  auto text = [](const std::string& value) {
    return value.empty() ? std::nullopt : std::make_optional(value);
  };
  auto flag = [](bool value) { return value ? std::make_optional(std::string()) : std::nullopt; };
  return filter.Matches([&](absl::Span<const std::string> path) -> std::optional<std::string> {
    if (path.empty()) return std::nullopt;
    const std::string& field = path.front();
    if (field == "id") return text(info.id);
    if (field == "parents") return text(absl::StrJoin(info.parents, ";"));
    if (field == "description") return text(info.description);
    if (field == "type") return text(info.record_type);
    if (field == "inuse") return flag(info.in_use);
    if (field == "mutable") return flag(info.is_mutable);
    if (field == "immutable") return flag(!info.is_mutable);
    if (field == "shared") return flag(info.shared);
    if (field == "private") return flag(!info.shared);
    return std::nullopt;
  });
}

// Blocks on disk taken by a folder. A file that other folders have too counts for a part of its
// size, or not at all when this folder only took it over (a merge): sums then count it once.
absl::StatusOr<int64_t> LocalRefStore::FolderBytes(uint64_t number, bool count_shared) const {
  struct Linked {
    int64_t bytes = 0, links = 0, seen = 0;
  };
  absl::flat_hash_map<std::pair<dev_t, ino_t>, Linked> linked;
  int64_t bytes = 0;
  KILN_RETURN_IF_ERROR(LayerChanges(driver_->FilesDir(number), [&](const Change& change) {
    struct stat st = change.st;
    if (change.kind == Change::Kind::kDelete) return absl::OkStatus();
    const int64_t size = static_cast<int64_t>(st.st_blocks) * 512;
    if (S_ISDIR(st.st_mode) || st.st_nlink == 1) {
      bytes += size;
    } else {
      Linked& file = linked[std::make_pair(st.st_dev, st.st_ino)];
      file = {size, static_cast<int64_t>(st.st_nlink), file.seen + 1};
    }
    return absl::OkStatus();
  }));
  for (const auto& [inode, file] : linked) {
    if (file.seen >= file.links) {
      bytes += file.bytes;
    } else if (count_shared) {
      bytes += file.bytes * file.seen / file.links;
    }
  }
  return bytes;
}

// Computes and remembers the size of a record that nobody writes. 0 when it is gone meanwhile.
absl::StatusOr<int64_t> LocalRefStore::MeasureSize(const std::string& id) {
  NodePtr node;
  RecordPtr record;
  {
    MutexLock lock(&mu_);
    unsized_.erase(id);
    absl::StatusOr<NodePtr> loaded = LoadLocked(id);
    if (absl::IsNotFound(loaded.status())) return 0;
    KILN_RETURN_IF_ERROR(loaded.status());
    node = *std::move(loaded);
    record = node->record;
    if (node->writer) return 0;
  }
  if (record->size_bytes >= 0) return record->size_bytes;
  int64_t bytes = 0;
  for (const uint64_t number : {record->snapshot, record->flat}) {
    if (number == 0 || record->lazy()) continue;
    absl::StatusOr<int64_t> part =
        FolderBytes(number, record->kind == RefRecord::Kind::kLayer && number == record->snapshot);
    if (absl::IsNotFound(part.status())) return 0;  // pruned while we looked
    KILN_RETURN_IF_ERROR(Annotate(part.status(), absl::StrCat("size of ref ", id)));
    bytes += *part;
  }
  if (LayerBacking* const backing = backing_; backing != nullptr && record->snapshot != 0) {
    KILN_ASSIGN_OR_RETURN(const int64_t behind, backing->Bytes(record->snapshot));
    bytes += behind;
  }
  const absl::Status noted = Update(node, [&](RefRecord& edited, Batch&) {
    // Made, reopened or flattened meanwhile: not what was measured.
    if (edited.snapshot == record->snapshot && edited.flat == record->flat &&
        edited.ready == record->ready && edited.twin == record->twin)
      edited.size_bytes = bytes;
  });
  if (!noted.ok() && !absl::IsNotFound(noted)) return noted;
  return bytes;
}

void LocalRefStore::NoteSizeChange(const std::string& id, const RefRecord& before,
                                   const RefRecord& after) {
  if (!after.is_mutable && !after.twin.empty()) return;  // its mutable half stands for both
  if (before.size_bytes == after.size_bytes) return;
  if (before.size_bytes > 0) known_bytes_ -= before.size_bytes;
  if (after.size_bytes > 0) known_bytes_ += after.size_bytes;
  if (after.size_bytes < 0) unsized_.insert(id);
}

absl::StatusOr<UsageList> LocalRefStore::ListUsage() {
  // Which records are held is looked at first: what is released meanwhile counts as in use.
  absl::flat_hash_map<std::string, bool> held;  // to: it is immutable
  absl::flat_hash_set<std::string> listed;      // without a row
  UsageList list;
  {
    MutexLock lock(&mu_);
    for (const auto& [id, node] : nodes_) {
      if (node->busy && node->record == nullptr) continue;
      if (node->holds == 0 && !node->writer) continue;
      held.emplace(id, !node->record->is_mutable);
      if (node->persisted) continue;
      // A mutable that nobody asked to keep has no row.
      listed.insert(id);
      list.items.push_back({InfoOf(id, *node->record), 0});
      list.items.back().info.in_use = true;
      list.items.back().info.size_bytes = 0;
    }
  }
  Cursor usage = database_.Scan(Family::kUsage, "");
  Cursor rows = database_.Scan(Family::kRefs, absl::string_view(&internal::kRecordRow, 1));
  for (; rows.Valid(); rows.Next()) {
    std::string id(internal::IdOfKey(rows.key()));
    absl::StatusOr<RefRecord> record = internal::DecodeRecord(rows.value());
    if (listed.contains(id)) continue;  // committed just now
    if (!record.ok()) continue;         // Get says what is wrong with it
    auto hold = held.find(id);
    const bool in_use = hold != held.end();
    // Two halves on the same files are listed once: the one that is held, else the mutable.
    if (!record->twin.empty()) {
      auto other = held.find(record->twin);
      if (record->is_mutable ? other != held.end() && other->second : !in_use) {
        for (const std::string& parent : record->parents) ++list.more_children[parent];
        continue;
      }
    }
    UsageList::Item item{InfoOf(id, *record), 0};
    item.info.in_use = in_use;
    if (record->is_mutable && in_use) item.info.size_bytes = 0;  // it is changing
    usage.Seek(id);
    if (usage.Valid() && usage.key() == id) {
      const internal::Usage used = internal::DecodeUsage(usage.value());
      item.info.last_used_at = used.last_used_at;
      item.info.usage_count = used.count;
    }
    list.items.push_back(std::move(item));
  }
  KILN_RETURN_IF_ERROR(rows.status());
  list.Link();
  return list;
}

UsageInfo LocalRefStore::InfoOf(const std::string& id, const RefRecord& record) {
  UsageInfo info;
  info.id = id;
  info.is_mutable = record.is_mutable;
  info.size_bytes = record.size_bytes;
  for (const std::string& parent : record.parents)
    if (!parent.empty()) info.parents.push_back(parent);
  info.created_at = record.created_at;
  info.description = record.description;
  info.record_type = record.record_type.empty() ? "regular" : record.record_type;
  return info;
}

absl::StatusOr<int64_t> LocalRefStore::MeasureAll(UsageList& list, const CancelToken& cancel) {
  int64_t total = 0;
  for (UsageList::Item& item : list.items) {
    KILN_RETURN_IF_ERROR(cancel.status());
    if (item.info.size_bytes < 0) {
      KILN_ASSIGN_OR_RETURN(item.info.size_bytes, MeasureSize(item.info.id));
    }
    if (!item.info.shared) total += item.info.size_bytes;
  }
  MutexLock lock(&mu_);
  known_bytes_ = total;
  totals_known_ = true;
  return total;
}

absl::StatusOr<std::vector<UsageInfo>> LocalRefStore::DiskUsage(
    absl::Span<const std::string> filters) {
  KILN_ASSIGN_OR_RETURN(const Filter filter, Filter::Parse(filters));
  KILN_ASSIGN_OR_RETURN(UsageList list, ListUsage());
  std::vector<UsageInfo> out;
  for (UsageList::Item& item : list.items) {
    if (!MatchesUsage(filter, item.info)) continue;
    if (item.info.size_bytes < 0) {
      KILN_ASSIGN_OR_RETURN(item.info.size_bytes, MeasureSize(item.info.id));
    }
    out.push_back(std::move(item.info));
  }
  return out;
}

}  // namespace kiln::store
