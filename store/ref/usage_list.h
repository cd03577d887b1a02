#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "store/filter.h"
#include "store/ref_store.h"

namespace kiln::store {

// Every record at one moment, as du shows them and prune goes through them. Not thread-safe.
struct UsageList {
  struct Item {
    UsageInfo info;
    size_t children = 0;
  };
  std::vector<Item> items;
  // Children that are not listed: the hidden half of a pair.
  absl::flat_hash_map<std::string, size_t> more_children;
  absl::flat_hash_map<std::string, size_t> by_id;

  // Counts children, and marks what has a descendant in use as in use itself. O(items).
  void Link();
};

// By the fields that BuildKit's du and prune know.
bool MatchesUsage(const Filter& filter, const UsageInfo& info);

}  // namespace kiln::store
