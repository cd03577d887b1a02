#include "store/rocks_cache_index.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/cache_change.h"
#include "store/input_keys.h"

namespace kiln::store {
namespace {

// Results are released so many at a time, which bounds a batch's memory.
constexpr size_t kReleaseBatch = 256;

// The next larger id; nullopt after the largest.
std::optional<KeyId> Successor(const KeyId& id) {
  std::array<uint8_t, Digest::kSize> bytes;
  std::copy(id.raw().begin(), id.raw().end(), bytes.begin());
  for (size_t i = bytes.size(); i > 0; --i)
    if (++bytes[i - 1] != 0) return KeyId(bytes);
  return std::nullopt;
}

// The targets of one input: the union over its keys, in the order of ids.
class TargetList {
 public:
  TargetList(const std::vector<InputKey>& keys, uint32_t input, const KeyId& op) {
    for (const InputKey& key : keys)
      prefixes_.push_back(LinkPrefix(key.key, op, input, key.selector));
  }

  // The first target not less than `from`; nullopt when there is none.
  absl::StatusOr<std::optional<KeyId>> Seek(Cursor& links, const KeyId& from) const {
    std::optional<KeyId> least;
    for (const std::string& prefix : prefixes_) {
      links.Seek(absl::StrCat(prefix, from.raw()));
      if (!links.Valid()) {
        KILN_RETURN_IF_ERROR(links.status());
        continue;
      }
      if (!absl::StartsWith(links.key(), prefix)) continue;
      KILN_ASSIGN_OR_RETURN(const LinkRow link, DecodeLinkKey(links.key()));
      if (!least.has_value() || link.to < *least) least = link.to;
      if (*least == from) break;
    }
    return least;
  }

 private:
  std::vector<std::string> prefixes_;
};

absl::Status AddLinks(CacheChange& change, absl::Span<const std::vector<InputKey>> inputs,
                      const KeyId& op, const KeyId& to) {
  for (size_t i = 0; i < inputs.size(); ++i)
    for (const InputKey& key : inputs[i])
      KILN_RETURN_IF_ERROR(
          change.AddLink({key.key, op, static_cast<uint32_t>(i), key.selector, to}));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<KeyId> RocksCacheIndex::Resolve(const KeyId& key) const {
  KILN_ASSIGN_OR_RETURN(const std::optional<std::string> node,
                        database_->Get(Family::kAliases, AliasKey(key)));
  if (!node.has_value()) return key;
  return DecodeAliasValue(*node);
}

absl::StatusOr<std::vector<InputKey>> RocksCacheIndex::Resolve(
    absl::Span<const InputKey> keys) const {
  std::vector<InputKey> out(keys.begin(), keys.end());
  for (InputKey& key : out) {
    KILN_ASSIGN_OR_RETURN(key.key, Resolve(key.key));
  }
  SortUnique(&out);
  return out;
}

absl::StatusOr<RocksCacheIndex::Inputs> RocksCacheIndex::ResolveAll(
    absl::Span<const std::vector<InputKey>> inputs) const {
  Inputs out;
  out.reserve(inputs.size());
  for (const std::vector<InputKey>& keys : inputs) {
    KILN_ASSIGN_OR_RETURN(std::vector<InputKey> resolved, Resolve(keys));
    out.push_back(std::move(resolved));
  }
  return out;
}

absl::StatusOr<bool> RocksCacheIndex::HasRoot(const KeyId& key) {
  KILN_ASSIGN_OR_RETURN(const KeyId id, Resolve(key));
  return database_->Has(Family::kKeys, id.raw());
}

absl::Status RocksCacheIndex::CarryOver(absl::Span<const LinkRow> links) {
  if (links.empty()) return absl::OkStatus();
  MutexLock lock(&change_mu_);
  CacheChange change(database_);
  for (const LinkRow& link : links) {
    // It may have been released since it was found; linking to it would leave a dead end.
    KILN_ASSIGN_OR_RETURN(const bool alive, change.HasNode(link.to));
    if (alive) KILN_RETURN_IF_ERROR(change.AddLink(link));
  }
  return change.Commit();
}

absl::StatusOr<std::vector<KeyId>> RocksCacheIndex::Query(absl::Span<const InputKey> keys,
                                                          int input, const OpOutput& op) {
  const KeyId op_key = RootKey(op);
  KILN_ASSIGN_OR_RETURN(const std::vector<InputKey> resolved, Resolve(keys));
  std::vector<std::vector<KeyId>> found(resolved.size());
  std::vector<KeyId> all;
  for (size_t i = 0; i < resolved.size(); ++i) {
    Cursor links = database_->Scan(
        Family::kLinks,
        LinkPrefix(resolved[i].key, op_key, static_cast<uint32_t>(input), resolved[i].selector));
    for (; links.Valid() && found[i].size() <= kMaxCarryOver; links.Next()) {
      KILN_ASSIGN_OR_RETURN(const LinkRow link, DecodeLinkKey(links.key()));
      found[i].push_back(link.to);
    }
    KILN_RETURN_IF_ERROR(links.status());
    all.insert(all.end(), found[i].begin(), found[i].end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (all.size() > kMaxCarryOver) {
    all.resize(kMaxCarryOver + 1);
    return all;
  }

  std::vector<LinkRow> missing;
  for (size_t i = 0; i < resolved.size(); ++i)
    for (const KeyId& target : all)
      if (!std::binary_search(found[i].begin(), found[i].end(), target))
        missing.push_back(
            {resolved[i].key, op_key, static_cast<uint32_t>(input), resolved[i].selector, target});
  KILN_RETURN_IF_ERROR(CarryOver(missing));
  return all;
}

// A leapfrog join: every input in turn moves to the first target not less than the candidate, and
// may raise it. The input with the fewest targets therefore bounds the number of rounds.
absl::StatusOr<std::vector<KeyId>> RocksCacheIndex::Common(const Inputs& inputs,
                                                           const KeyId& op) const {
  std::vector<KeyId> common;
  if (inputs.empty()) return common;
  std::vector<TargetList> lists;
  lists.reserve(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    lists.emplace_back(inputs[i], static_cast<uint32_t>(i), op);
  Cursor links = database_->Probe(Family::kLinks);
  KeyId candidate;
  size_t agreed = 0;  // inputs in a row that have the candidate
  for (size_t i = 0;; i = (i + 1) % lists.size()) {
    KILN_ASSIGN_OR_RETURN(const std::optional<KeyId> target, lists[i].Seek(links, candidate));
    if (!target.has_value()) return common;
    agreed = *target == candidate ? agreed + 1 : 1;
    candidate = *target;
    if (agreed < lists.size()) continue;
    common.push_back(candidate);
    const std::optional<KeyId> next = Successor(candidate);
    if (!next.has_value()) return common;
    candidate = *next;
    agreed = 0;
  }
}

absl::StatusOr<std::vector<KeyId>> RocksCacheIndex::Match(
    absl::Span<const std::vector<InputKey>> inputs, const OpOutput& op) {
  KILN_RETURN_IF_ERROR(CheckInputs(op, inputs));
  const KeyId op_key = RootKey(op);
  KILN_ASSIGN_OR_RETURN(const Inputs resolved, ResolveAll(inputs));
  KILN_ASSIGN_OR_RETURN(std::vector<KeyId> common, Common(resolved, op_key));
  std::vector<LinkRow> missing;
  for (const KeyId& target : common)
    for (size_t i = 0; i < resolved.size(); ++i) {
      if (resolved[i].size() == 1) continue;  // the one key is what led there
      for (const InputKey& key : resolved[i]) {
        LinkRow link = {key.key, op_key, static_cast<uint32_t>(i), key.selector, target};
        KILN_ASSIGN_OR_RETURN(const bool known, database_->Has(Family::kLinks, LinkKey(link)));
        if (!known) missing.push_back(std::move(link));
      }
    }
  KILN_RETURN_IF_ERROR(CarryOver(missing));
  return common;
}

absl::StatusOr<std::vector<CacheRecord>> RocksCacheIndex::Records(const KeyId& key) {
  KILN_ASSIGN_OR_RETURN(const KeyId id, Resolve(key));
  std::vector<CacheRecord> records;
  Cursor cursor = database_->Scan(Family::kRecords, id.raw());
  for (; cursor.Valid(); cursor.Next()) {
    KeyId node;
    KILN_ASSIGN_OR_RETURN(CacheRecord record, DecodeRecordKey(cursor.key(), &node));
    records.push_back(std::move(record));
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  return records;
}

absl::StatusOr<KeyId> RocksCacheIndex::Save(const OpOutput& op,
                                            absl::Span<const std::vector<InputKey>> inputs,
                                            const CacheRecord& record) {
  KILN_RETURN_IF_ERROR(CheckInputs(op, inputs));
  const KeyId op_key = RootKey(op);
  MutexLock lock(&change_mu_);
  KILN_ASSIGN_OR_RETURN(const Inputs resolved, ResolveAll(inputs));
  const KeyId computed = inputs.empty() ? op_key : NewNodeKey(op, resolved);
  KILN_ASSIGN_OR_RETURN(const KeyId known, Resolve(computed));
  KILN_ASSIGN_OR_RETURN(const std::vector<KeyId> common, Common(resolved, op_key));
  const KeyId id = ChooseNode(known, common);
  CacheChange change(database_);
  KILN_RETURN_IF_ERROR(change.AddNode(id, op));
  KILN_RETURN_IF_ERROR(change.AddAlias(computed, id));
  KILN_RETURN_IF_ERROR(AddLinks(change, resolved, op_key, id));
  KILN_RETURN_IF_ERROR(change.AddRecord(id, record));
  KILN_RETURN_IF_ERROR(change.Commit());
  return id;
}

absl::Status RocksCacheIndex::Link(const OpOutput& op,
                                   absl::Span<const std::vector<InputKey>> inputs,
                                   const KeyId& target) {
  KILN_RETURN_IF_ERROR(CheckInputs(op, inputs));
  MutexLock lock(&change_mu_);
  KILN_ASSIGN_OR_RETURN(const KeyId id, Resolve(target));
  KILN_ASSIGN_OR_RETURN(const Inputs resolved, ResolveAll(inputs));
  CacheChange change(database_);
  KILN_ASSIGN_OR_RETURN(const bool alive, change.HasNode(id));
  if (!alive) return absl::OkStatus();
  KILN_RETURN_IF_ERROR(AddLinks(change, resolved, RootKey(op), id));
  return change.Commit();
}

absl::Status RocksCacheIndex::ReleaseAll(absl::Span<const std::string> result_ids) {
  for (size_t begin = 0; begin < result_ids.size(); begin += kReleaseBatch) {
    MutexLock lock(&change_mu_);  // let others in between the batches
    CacheChange change(database_);
    for (const std::string& id : result_ids.subspan(begin, kReleaseBatch))
      KILN_RETURN_IF_ERROR(change.DropResult(id));
    KILN_RETURN_IF_ERROR(change.Commit());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> RocksCacheIndex::Results(absl::string_view after,
                                                                  size_t limit) {
  std::vector<std::string> out;
  Cursor cursor = database_->Scan(Family::kResults, "");
  cursor.Seek(ResultPrefix(after));
  for (; cursor.Valid() && out.size() < limit; cursor.Next()) {
    KeyId node;
    KILN_ASSIGN_OR_RETURN(std::string id, DecodeResultKey(cursor.key(), &node));
    if (id == after) continue;
    if (out.empty() || out.back() != id) out.push_back(std::move(id));
  }
  KILN_RETURN_IF_ERROR(cursor.status());
  return out;
}

absl::StatusOr<std::vector<CommittedRecord>> RocksCacheIndex::CommittedSince(uint64_t sequence,
                                                                             size_t limit) {
  KILN_ASSIGN_OR_RETURN(const std::vector<Delta> deltas, database_->DeltasSince(sequence, limit));
  std::vector<CommittedRecord> out;
  for (const Delta& delta : deltas) {
    for (const RowName& row : delta.rows) {
      if (row.family != Family::kRecords) continue;
      CommittedRecord committed;
      committed.sequence = delta.sequence;
      KILN_ASSIGN_OR_RETURN(CacheRecord record, DecodeRecordKey(row.key, &committed.key));
      committed.result_id = std::move(record.result_id);
      out.push_back(std::move(committed));
    }
  }
  return out;
}

absl::StatusOr<PortableNode> RocksCacheIndex::Export(const KeyId& key) {
  PortableNode out;
  KILN_ASSIGN_OR_RETURN(out.id, Resolve(key));
  KILN_ASSIGN_OR_RETURN(const std::optional<std::string> value,
                        database_->Get(Family::kKeys, out.id.raw()));
  if (!value.has_value())
    return absl::NotFoundError(absl::StrCat("cache key ", key.ToString(), " is unknown"));
  KILN_ASSIGN_OR_RETURN(NodeRow node, DecodeNodeValue(*value));
  out.op = std::move(node.op);
  Cursor links = database_->Scan(Family::kBackLinks, out.id.raw());
  for (; links.Valid(); links.Next()) {
    KILN_ASSIGN_OR_RETURN(LinkRow link, DecodeBackLinkKey(links.key()));
    out.links.push_back(
        {link.op, static_cast<int>(link.input), {link.from, std::move(link.selector)}});
  }
  KILN_RETURN_IF_ERROR(links.status());
  SortLinks(&out.links);
  KILN_ASSIGN_OR_RETURN(out.records, Records(out.id));
  return out;
}

absl::StatusOr<KeyId> RocksCacheIndex::Merge(const PortableNode& node) {
  KILN_RETURN_IF_ERROR(CheckPortable(node));
  MutexLock lock(&change_mu_);
  KILN_ASSIGN_OR_RETURN(const Inputs inputs, ResolveAll(InputsOf(node)));
  KILN_ASSIGN_OR_RETURN(const KeyId given, Resolve(node.id));
  KILN_ASSIGN_OR_RETURN(const std::vector<KeyId> common, Common(inputs, RootKey(node.op)));
  const KeyId id = ChooseNode(given, common);
  CacheChange change(database_);
  // Links out of the given id that came before it: keep them reachable.
  KILN_ASSIGN_OR_RETURN(const bool given_exists, change.HasNode(given));
  KILN_RETURN_IF_ERROR(change.AddNode(id, node.op));
  KILN_RETURN_IF_ERROR(change.AddAlias(node.id, id));
  for (const PortableNode::Link& link : node.links) {
    KILN_ASSIGN_OR_RETURN(const KeyId from, Resolve(link.from.key));
    LinkRow row = {from, link.op, static_cast<uint32_t>(link.input), link.from.selector, id};
    KILN_RETURN_IF_ERROR(change.AddLink(row));
    if (id == given || !given_exists) continue;
    row.to = given;
    KILN_RETURN_IF_ERROR(change.AddLink(row));
  }
  KILN_ASSIGN_OR_RETURN(const bool has_records, change.HasRecords(id));
  if (!has_records)
    for (const CacheRecord& record : node.records)
      KILN_RETURN_IF_ERROR(change.AddRecord(id, record));
  // Without records and with nothing behind it the node is not worth keeping.
  KILN_ASSIGN_OR_RETURN(const bool needed, change.IsNeeded(id));
  if (!needed) return id;
  KILN_RETURN_IF_ERROR(change.Commit());
  return id;
}

}  // namespace kiln::store
