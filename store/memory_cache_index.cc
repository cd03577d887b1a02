#include "store/memory_cache_index.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"
#include "store/input_keys.h"

namespace kiln::store {

KeyId MemoryCacheIndex::Resolve(const KeyId& key) const {
  const auto it = aliases_.find(key);
  return it == aliases_.end() ? key : it->second;
}

std::vector<InputKey> MemoryCacheIndex::Resolve(absl::Span<const InputKey> keys) const {
  std::vector<InputKey> out(keys.begin(), keys.end());
  for (InputKey& key : out) key.key = Resolve(key.key);
  SortUnique(&out);
  return out;
}

MemoryCacheIndex::Inputs MemoryCacheIndex::ResolveAll(
    absl::Span<const std::vector<InputKey>> inputs) const {
  Inputs out;
  for (const std::vector<InputKey>& keys : inputs) out.push_back(Resolve(keys));
  return out;
}

std::set<KeyId> MemoryCacheIndex::Targets(const std::vector<InputKey>& keys, int input,
                                          const KeyId& op) const {
  std::set<KeyId> found;
  for (const InputKey& key : keys) {
    const auto node = nodes_.find(key.key);
    if (node == nodes_.end()) continue;
    const auto links = node->second->out.find(Tag(op, input, key.selector));
    if (links != node->second->out.end()) found.insert(links->second.begin(), links->second.end());
  }
  return found;
}

std::set<KeyId> MemoryCacheIndex::Common(const Inputs& inputs, const KeyId& op) const {
  std::set<KeyId> common;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::set<KeyId> found = Targets(inputs[i], static_cast<int>(i), op);
    if (i == 0) {
      common = found;
      continue;
    }
    std::set<KeyId> both;
    std::set_intersection(common.begin(), common.end(), found.begin(), found.end(),
                          std::inserter(both, both.end()));
    common = std::move(both);
  }
  return common;
}

void MemoryCacheIndex::AddLink(const KeyId& from, const Tag& tag, const KeyId& to) {
  if (from == to) return;  // would keep itself alive
  std::unique_ptr<Node>& source = nodes_[from];
  if (source == nullptr) source = std::make_unique<Node>();
  source->out[tag].insert(to);
  nodes_.at(to)->in.emplace(tag, from);
}

void MemoryCacheIndex::AddLinks(const Inputs& inputs, const KeyId& op, const KeyId& to) {
  for (size_t i = 0; i < inputs.size(); ++i)
    for (const InputKey& key : inputs[i])
      AddLink(key.key, Tag(op, static_cast<int>(i), key.selector), to);
}

void MemoryCacheIndex::AddAlias(const KeyId& alias, const KeyId& node) {
  // A node in its own right stays one; look-ups find both.
  if (alias == node || nodes_.contains(alias) || aliases_.contains(alias)) return;
  aliases_[alias] = node;
  nodes_.at(node)->aliases.insert(alias);
}

void MemoryCacheIndex::AddRecord(const KeyId& key, const CacheRecord& record) {
  std::vector<CacheRecord>& records = nodes_.at(key)->records;
  const auto old = std::find_if(records.begin(), records.end(), [&](const CacheRecord& r) {
    return r.result_id == record.result_id;
  });
  if (old != records.end()) {
    if (!(record < *old)) return;
    records.erase(old);
  }
  records.insert(std::lower_bound(records.begin(), records.end(), record), record);
  results_[record.result_id].insert(key);
  committed_.push_back({committed_.size() + 1, key, record.result_id});
}

void MemoryCacheIndex::RemoveUnneeded(std::vector<KeyId> suspects) {
  while (!suspects.empty()) {
    const KeyId id = suspects.back();
    suspects.pop_back();
    const auto it = nodes_.find(id);
    if (it == nodes_.end() || !it->second->out.empty() || !it->second->records.empty()) continue;
    for (const auto& [tag, from] : it->second->in) {
      Node& source = *nodes_.at(from);
      std::set<KeyId>& targets = source.out.at(tag);
      targets.erase(id);
      if (targets.empty()) source.out.erase(tag);
      suspects.push_back(from);
    }
    for (const KeyId& alias : it->second->aliases) aliases_.erase(alias);
    nodes_.erase(it);
  }
}

absl::StatusOr<bool> MemoryCacheIndex::HasRoot(const KeyId& key) {
  MutexLock lock(&mu_);
  return nodes_.contains(Resolve(key));
}

absl::StatusOr<std::vector<KeyId>> MemoryCacheIndex::Query(absl::Span<const InputKey> keys,
                                                           int input, const OpOutput& op) {
  MutexLock lock(&mu_);
  const KeyId op_key = RootKey(op);
  const std::vector<InputKey> resolved = Resolve(keys);
  const std::set<KeyId> found = Targets(resolved, input, op_key);
  std::vector<KeyId> targets(found.begin(), found.end());
  if (targets.size() > kMaxCarryOver) {
    targets.resize(kMaxCarryOver + 1);
    return targets;
  }
  for (const KeyId& target : targets)
    for (const InputKey& key : resolved) AddLink(key.key, Tag(op_key, input, key.selector), target);
  return targets;
}

absl::StatusOr<std::vector<KeyId>> MemoryCacheIndex::Match(
    absl::Span<const std::vector<InputKey>> inputs, const OpOutput& op) {
  KILN_RETURN_IF_ERROR(CheckInputs(op, inputs));
  MutexLock lock(&mu_);
  const Inputs resolved = ResolveAll(inputs);
  const std::set<KeyId> found = Common(resolved, RootKey(op));
  for (const KeyId& target : found) AddLinks(resolved, RootKey(op), target);
  return std::vector<KeyId>(found.begin(), found.end());
}

absl::StatusOr<std::vector<CacheRecord>> MemoryCacheIndex::Records(const KeyId& key) {
  MutexLock lock(&mu_);
  const auto it = nodes_.find(Resolve(key));
  if (it == nodes_.end()) return std::vector<CacheRecord>();
  return it->second->records;
}

absl::StatusOr<KeyId> MemoryCacheIndex::Save(const OpOutput& op,
                                             absl::Span<const std::vector<InputKey>> inputs,
                                             const CacheRecord& record) {
  KILN_RETURN_IF_ERROR(CheckInputs(op, inputs));
  MutexLock lock(&mu_);
  const Inputs resolved = ResolveAll(inputs);
  const KeyId computed = inputs.empty() ? RootKey(op) : NewNodeKey(op, resolved);
  const std::set<KeyId> common = Common(resolved, RootKey(op));
  const KeyId id = ChooseNode(Resolve(computed), std::vector<KeyId>(common.begin(), common.end()));
  std::unique_ptr<Node>& node = nodes_[id];
  if (node == nullptr) node = std::make_unique<Node>();
  node->op = op;
  AddAlias(computed, id);
  AddLinks(resolved, RootKey(op), id);
  AddRecord(id, record);
  return id;
}

absl::Status MemoryCacheIndex::Link(const OpOutput& op,
                                    absl::Span<const std::vector<InputKey>> inputs,
                                    const KeyId& target) {
  KILN_RETURN_IF_ERROR(CheckInputs(op, inputs));
  MutexLock lock(&mu_);
  const KeyId id = Resolve(target);
  if (nodes_.contains(id)) AddLinks(ResolveAll(inputs), RootKey(op), id);
  return absl::OkStatus();
}

absl::Status MemoryCacheIndex::ReleaseAll(absl::Span<const std::string> result_ids) {
  MutexLock lock(&mu_);
  for (const std::string& result_id : result_ids) {
    const auto it = results_.find(result_id);
    if (it == results_.end()) continue;
    const std::vector<KeyId> keys(it->second.begin(), it->second.end());
    results_.erase(it);
    for (const KeyId& key : keys) {
      std::vector<CacheRecord>& records = nodes_.at(key)->records;
      records.erase(std::remove_if(records.begin(), records.end(),
                                   [&](const CacheRecord& r) { return r.result_id == result_id; }),
                    records.end());
    }
    RemoveUnneeded(keys);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> MemoryCacheIndex::Results(absl::string_view after,
                                                                   size_t limit) {
  MutexLock lock(&mu_);
  std::vector<std::string> out;
  for (auto it = results_.upper_bound(std::string(after));
       it != results_.end() && out.size() < limit; ++it)
    out.push_back(it->first);
  return out;
}

absl::StatusOr<std::vector<CommittedRecord>> MemoryCacheIndex::CommittedSince(uint64_t sequence,
                                                                              size_t limit) {
  MutexLock lock(&mu_);
  std::vector<CommittedRecord> out;
  for (uint64_t i = sequence; i < committed_.size() && out.size() < limit; ++i)
    out.push_back(committed_[i]);
  return out;
}

absl::StatusOr<PortableNode> MemoryCacheIndex::Export(const KeyId& key) {
  MutexLock lock(&mu_);
  PortableNode out;
  out.id = Resolve(key);
  const auto it = nodes_.find(out.id);
  if (it == nodes_.end())
    return absl::NotFoundError(absl::StrCat("cache key ", key.ToString(), " is unknown"));
  out.op = it->second->op;
  for (const auto& [tag, from] : it->second->in)
    out.links.push_back({std::get<0>(tag), std::get<1>(tag), {from, std::get<2>(tag)}});
  SortLinks(&out.links);
  out.records = it->second->records;
  return out;
}

absl::StatusOr<KeyId> MemoryCacheIndex::Merge(const PortableNode& portable) {
  KILN_RETURN_IF_ERROR(CheckPortable(portable));
  MutexLock lock(&mu_);
  const KeyId op = RootKey(portable.op);
  const Inputs inputs = ResolveAll(InputsOf(portable));
  const KeyId given = Resolve(portable.id);
  const std::set<KeyId> common = Common(inputs, op);
  const KeyId id = ChooseNode(given, std::vector<KeyId>(common.begin(), common.end()));
  // Links out of the given id that came before it: keep them reachable.
  const bool twin = id != given && nodes_.contains(given);
  std::unique_ptr<Node>& node = nodes_[id];
  if (node == nullptr) node = std::make_unique<Node>();
  if (node->op.op_digest.empty()) node->op = portable.op;
  AddAlias(portable.id, id);
  for (const PortableNode::Link& link : portable.links) {
    const Tag tag(link.op, link.input, link.from.selector);
    AddLink(Resolve(link.from.key), tag, id);
    if (twin) AddLink(Resolve(link.from.key), tag, given);
  }
  if (nodes_.at(id)->records.empty())
    for (const CacheRecord& record : portable.records) AddRecord(id, record);
  RemoveUnneeded({id});
  return id;
}

absl::Duration MemoryCacheIndex::MeanDuration(absl::string_view op_digest) {
  MutexLock lock(&mu_);
  const auto it = durations_.find(op_digest);
  return it == durations_.end() ? absl::ZeroDuration() : it->second;
}

void MemoryCacheIndex::RecordDuration(absl::string_view op_digest, absl::Duration took) {
  MutexLock lock(&mu_);
  const auto [it, added] = durations_.try_emplace(std::string(op_digest), took);
  if (!added) it->second += (took - it->second) / 4;
}

size_t MemoryCacheIndex::node_count() const {
  MutexLock lock(&mu_);
  return nodes_.size();
}

size_t MemoryCacheIndex::link_count() const {
  MutexLock lock(&mu_);
  size_t count = 0;
  for (const auto& [id, node] : nodes_) count += node->in.size();
  return count;
}

}  // namespace kiln::store
