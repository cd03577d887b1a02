#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "store/base/mutex.h"
#include "store/cache_index.h"

namespace kiln::store {

// A CacheIndex that forgets everything when it goes: for tests, and the model that RocksCacheIndex
// is compared with. Plain maps, one mutex, no limits; costs are those of the promises of
// CacheIndex except for Match, which looks at every target of each input.
class MemoryCacheIndex : public CacheIndex {
 public:
  absl::StatusOr<bool> HasRoot(const KeyId& key) override;
  absl::StatusOr<std::vector<KeyId>> Query(absl::Span<const InputKey> keys, int input,
                                           const OpOutput& op) override;
  absl::StatusOr<std::vector<KeyId>> Match(absl::Span<const std::vector<InputKey>> inputs,
                                           const OpOutput& op) override;
  absl::StatusOr<std::vector<CacheRecord>> Records(const KeyId& key) override;
  absl::StatusOr<KeyId> Save(const OpOutput& op, absl::Span<const std::vector<InputKey>> inputs,
                             const CacheRecord& record) override;
  absl::Status Link(const OpOutput& op, absl::Span<const std::vector<InputKey>> inputs,
                    const KeyId& target) override;
  absl::Status ReleaseAll(absl::Span<const std::string> result_ids) override;
  absl::StatusOr<std::vector<std::string>> Results(absl::string_view after, size_t limit) override;
  absl::StatusOr<std::vector<CommittedRecord>> CommittedSince(uint64_t sequence,
                                                              size_t limit) override;
  absl::StatusOr<PortableNode> Export(const KeyId& key) override;
  absl::StatusOr<KeyId> Merge(const PortableNode& node) override;
  absl::Duration MeanDuration(absl::string_view op_digest) override;
  void RecordDuration(absl::string_view op_digest, absl::Duration took) override;

  // Nodes and links held: to see that nothing is left behind.
  size_t node_count() const;
  size_t link_count() const;

 private:
  using Tag = std::tuple<KeyId, int, std::string>;  // root key of the op, input, selector
  struct Node {
    OpOutput op;
    std::map<Tag, std::set<KeyId>> out;
    std::set<std::pair<Tag, KeyId>> in;
    std::vector<CacheRecord> records;  // in the order of choice
    std::set<KeyId> aliases;
  };
  using Inputs = std::vector<std::vector<InputKey>>;

  KeyId Resolve(const KeyId& key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<InputKey> Resolve(absl::Span<const InputKey> keys) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Inputs ResolveAll(absl::Span<const std::vector<InputKey>> inputs) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::set<KeyId> Targets(const std::vector<InputKey>& keys, int input, const KeyId& op) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::set<KeyId> Common(const Inputs& inputs, const KeyId& op) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddLink(const KeyId& from, const Tag& tag, const KeyId& to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddLinks(const Inputs& inputs, const KeyId& op, const KeyId& to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddAlias(const KeyId& alias, const KeyId& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddRecord(const KeyId& key, const CacheRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RemoveUnneeded(std::vector<KeyId> suspects) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  absl::flat_hash_map<KeyId, std::unique_ptr<Node>> nodes_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<KeyId, KeyId> aliases_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::set<KeyId>> results_ ABSL_GUARDED_BY(mu_);
  std::vector<CommittedRecord> committed_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, absl::Duration> durations_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::store
