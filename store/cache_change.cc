#include "store/cache_change.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::store {

absl::StatusOr<CacheChange::Node*> CacheChange::Load(const KeyId& id) {
  const auto [it, added] = nodes_.try_emplace(id);
  if (!added) return &it->second;
  absl::StatusOr<std::optional<std::string>> value = database_->Get(Family::kKeys, id.raw());
  if (!value.ok()) {
    nodes_.erase(it);
    return value.status();
  }
  if (!value->has_value()) return &it->second;
  absl::StatusOr<NodeRow> row = DecodeNodeValue(**value);
  if (!row.ok()) {
    nodes_.erase(it);
    return row.status();
  }
  it->second = {*std::move(row), true, true, false};
  return &it->second;
}

absl::Status CacheChange::AddNode(const KeyId& id, const OpOutput& op) {
  KILN_ASSIGN_OR_RETURN(Node * node, Load(id));
  if (node->exists && !node->row.op.op_digest.empty()) return absl::OkStatus();
  node->exists = true;
  node->changed = true;
  node->row.op = op;
  return absl::OkStatus();
}

absl::StatusOr<bool> CacheChange::HasNode(const KeyId& id) {
  KILN_ASSIGN_OR_RETURN(Node * node, Load(id));
  return node->exists;
}

absl::StatusOr<bool> CacheChange::HasRecords(const KeyId& id) {
  KILN_ASSIGN_OR_RETURN(Node * node, Load(id));
  return node->row.records > 0;
}

absl::StatusOr<bool> CacheChange::IsNeeded(const KeyId& id) {
  KILN_ASSIGN_OR_RETURN(Node * node, Load(id));
  return node->row.records > 0 || node->row.links_out > 0;
}

absl::Status CacheChange::AddLink(const LinkRow& link) {
  if (link.from == link.to) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const bool has_target, HasNode(link.to));
  KILN_CHECK(has_target);
  std::string key = LinkKey(link);
  if (added_links_.contains(key)) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const bool stored, database_->Has(Family::kLinks, key));
  if (stored) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(Node * source, Load(link.from));
  source->exists = true;
  source->changed = true;
  ++source->row.links_out;
  batch_.Put(Family::kLinks, key, "");
  batch_.Put(Family::kBackLinks, BackLinkKey(link), "");
  added_links_.insert(std::move(key));
  return absl::OkStatus();
}

absl::Status CacheChange::AddAlias(const KeyId& alias, const KeyId& node) {
  if (alias == node) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const bool is_node, HasNode(alias));
  if (is_node) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const bool is_alias, database_->Has(Family::kAliases, AliasKey(alias)));
  if (is_alias) return absl::OkStatus();
  batch_.Put(Family::kAliases, AliasKey(alias), node.raw());
  batch_.Put(Family::kAliases, NodeAliasKey(node, alias), "");
  return absl::OkStatus();
}

absl::Status CacheChange::AddRecord(const KeyId& id, const CacheRecord& record) {
  KILN_ASSIGN_OR_RETURN(const bool exists, HasNode(id));
  KILN_CHECK(exists);
  const std::string key = ResultKey(record.result_id, id);
  if (!added_results_.insert(key).second) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const std::optional<std::string> old,
                        database_->Get(Family::kResults, key));
  KILN_ASSIGN_OR_RETURN(Node * node, Load(id));
  if (old.has_value()) {
    KILN_ASSIGN_OR_RETURN(CacheRecord before, DecodeResultValue(*old));
    before.result_id = record.result_id;
    // Compared as stored: to the nanosecond.
    if (RecordKey(id, before) <= RecordKey(id, record)) return absl::OkStatus();
    batch_.Delete(Family::kRecords, RecordKey(id, before));
  } else {
    ++node->row.records;
    node->changed = true;
  }
  batch_.Put(Family::kRecords, RecordKey(id, record), "");
  batch_.Put(Family::kResults, key, ResultValue(record));
  batch_.MarkCommitted(Family::kRecords, RecordKey(id, record));
  return absl::OkStatus();
}

absl::Status CacheChange::DropResult(const std::string& result_id) {
  if (!dropped_.insert(result_id).second) return absl::OkStatus();
  std::vector<KeyId> suspects;
  Cursor cursor = database_->Scan(Family::kResults, ResultPrefix(result_id));
  for (; cursor.Valid(); cursor.Next()) {
    KeyId id;
    KILN_RETURN_IF_ERROR(DecodeResultKey(cursor.key(), &id).status());
    KILN_ASSIGN_OR_RETURN(CacheRecord record, DecodeResultValue(cursor.value()));
    record.result_id = result_id;
    batch_.Delete(Family::kResults, cursor.key());
    batch_.Delete(Family::kRecords, RecordKey(id, record));
    KILN_ASSIGN_OR_RETURN(Node * node, Load(id));
    if (node->row.records == 0)
      return absl::DataLossError(
          absl::StrCat("cache key ", id.ToString(), " has more results than it counts"));
    --node->row.records;
    node->changed = true;
    suspects.push_back(id);
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  return RemoveUnneeded(std::move(suspects));
}

absl::Status CacheChange::RemoveUnneeded(std::vector<KeyId> suspects) {
  while (!suspects.empty()) {
    const KeyId id = suspects.back();
    suspects.pop_back();
    KILN_ASSIGN_OR_RETURN(Node * node, Load(id));
    if (!node->exists || node->row.links_out > 0 || node->row.records > 0) continue;
    node->exists = false;
    node->changed = true;
    Cursor links = database_->Scan(Family::kBackLinks, id.raw());
    for (; links.Valid(); links.Next()) {
      KILN_ASSIGN_OR_RETURN(const LinkRow link, DecodeBackLinkKey(links.key()));
      batch_.Delete(Family::kBackLinks, links.key());
      batch_.Delete(Family::kLinks, LinkKey(link));
      KILN_ASSIGN_OR_RETURN(Node * source, Load(link.from));
      if (source->row.links_out == 0)
        return absl::DataLossError(
            absl::StrCat("cache key ", link.from.ToString(), " has more links than it counts"));
      source->changed = true;
      if (--source->row.links_out == 0) suspects.push_back(link.from);
    }
    KILN_RETURN_IF_ERROR(links.status());
    Cursor aliases = database_->Scan(Family::kAliases, NodeAliasPrefix(id));
    for (; aliases.Valid(); aliases.Next()) {
      KILN_ASSIGN_OR_RETURN(const KeyId alias, DecodeNodeAliasKey(aliases.key()));
      batch_.Delete(Family::kAliases, aliases.key());
      batch_.Delete(Family::kAliases, AliasKey(alias));
    }
    KILN_RETURN_IF_ERROR(aliases.status());
  }
  return absl::OkStatus();
}

absl::Status CacheChange::Commit() {
  for (const auto& [id, node] : nodes_) {
    if (!node.changed) continue;
    if (node.exists) {
      batch_.Put(Family::kKeys, id.raw(), NodeValue(node.row));
    } else if (node.stored) {
      batch_.Delete(Family::kKeys, id.raw());
    }
  }
  return batch_.empty() ? absl::OkStatus() : database_->Write(batch_);
}

}  // namespace kiln::store
