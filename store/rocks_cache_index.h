#pragma once

#include <string>
#include <vector>

#include "store/base/mutex.h"
#include "store/cache_index.h"
#include "store/cache_rows.h"
#include "store/database.h"
#include "store/execution_statistics.h"

namespace kiln::store {

// The CacheIndex on disk. Key layouts and costs: DESIGN.md, Index.
//
// Look-ups take no lock. Changes are made one after the other, since each reads what it depends on
// and writes one batch; the mutex is held across that I/O, which is a log append without fsync.
class RocksCacheIndex : public CacheIndex {
 public:
  // `database` outlives the index.
  explicit RocksCacheIndex(Database* database) : database_(database), statistics_(database) {}

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
  absl::Duration MeanDuration(absl::string_view op_digest) override {
    return statistics_.Mean(op_digest);
  }
  void RecordDuration(absl::string_view op_digest, absl::Duration took) override {
    statistics_.Record(op_digest, took);
  }

 private:
  using Inputs = std::vector<std::vector<InputKey>>;

  absl::StatusOr<KeyId> Resolve(const KeyId& key) const;
  absl::StatusOr<std::vector<InputKey>> Resolve(absl::Span<const InputKey> keys) const;
  absl::StatusOr<Inputs> ResolveAll(absl::Span<const std::vector<InputKey>> inputs) const;
  // Targets common to all inputs, sorted.
  absl::StatusOr<std::vector<KeyId>> Common(const Inputs& inputs, const KeyId& op) const;
  // Writes links that were found missing on a look-up.
  absl::Status CarryOver(absl::Span<const LinkRow> links);

  Database* const database_;
  ExecutionStatistics statistics_;
  Mutex change_mu_;  // held from the first read to the commit of a change
};

}  // namespace kiln::store
