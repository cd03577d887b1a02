#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "store/ref_store.h"

namespace kiln::store {

// The arithmetic of pruning (llb.md 5.7), without any state. Pure functions.

// Bytes to keep: deleting goes on while the total is at least this. 0: no target, every candidate
// goes. `free_bytes` counts only when options.min_free_bytes is set.
int64_t BytesToKeep(const PruneOptions& options, int64_t total_bytes, int64_t free_bytes);

// What the order of deletion depends on.
struct PruneRank {
  absl::Time last_used_at = absl::InfinitePast();  // InfinitePast: never
  int64_t usage_count = 0;
  absl::Time created_at;
  std::string id;
};

// Indices into `ranks`, first to be deleted first: by position in order of last use over the number
// of positions, plus the same for the use count; equal ones the older first. O(n log n).
std::vector<size_t> DeletionOrder(absl::Span<const PruneRank> ranks);

}  // namespace kiln::store
