#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/digest.h"
#include "solver/solved_graph.h"
#include "store/cache_index.h"

namespace kiln::daemon {

// A result that a key is known to have.
struct KeyResult {
  absl::Time created_at;
  solver::ResultPtr result;  // at hand when `loaded`; null is the empty tree
  bool loaded = false;
  std::string id;  // else to be loaded by this id, from the cache index's refs …
  std::shared_ptr<const solver::ImportedKeys> imports;  // … or from here when not null
};

// A key as it is exported (images-and-cache.md 4.7). A plain value.
struct WalkedKey {
  struct Link {
    std::string selector;
    int key = 0;  // a smaller index than its own
  };
  Digest digest;                          // the record digest
  std::vector<std::vector<Link>> inputs;  // none empty; no inputs: a root or content key
  std::vector<KeyResult> results;         // in the order of choice
  bool of_root = false;                   // a key of the result that was asked for
};

// All keys that lead to the results of a build, linked as the cache index and the imports of the
// build know them, ways of earlier builds included; results only of what this build consists of.
// Keys that mean nothing elsewhere ("random:") are left out, and what cannot be reached without
// them. Keys with one digest and a common way for every input are one.
//
// Inputs come before consumers; equal graphs and indexes give equal lists. Cost: one look-up in the
// index for each key, and O(links). Blocks on the index.
absl::StatusOr<std::vector<WalkedKey>> WalkKeys(absl::Span<const solver::SolvedGraph> graphs,
                                                store::CacheIndex& index);

}  // namespace kiln::daemon
