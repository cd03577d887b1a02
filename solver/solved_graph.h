#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "solver/imported_keys.h"
#include "solver/op.h"
#include "store/cache_index.h"

namespace kiln::solver {

// What a job knows of the keys of everything below one of its results: what a cache export is made
// of. A plain value.
struct SolvedGraph {
  struct Input {
    uint32_t edge = 0;  // always a smaller index than its own
    std::string selector;
    std::optional<store::KeyId> content;  // its content key, when it was computed
  };
  // One output of a vertex.
  struct Edge {
    std::shared_ptr<const VertexInfo> info;
    std::vector<std::string> op_digests;  // one for each cache map that was asked for; may be empty
    int32_t output = 0;
    std::vector<Input> inputs;
    std::vector<store::KeyId> keys;  // of the cache index and of `imports`
    bool complete = false;
    ResultPtr result;  // when complete; null is the empty tree
    // When complete: the keys that the result was saved or found under.
    std::vector<store::KeyId> result_keys;
  };
  std::vector<Edge> edges;                      // the root is the last; empty: the empty tree
  std::shared_ptr<const ImportedKeys> imports;  // null: none
};

}  // namespace kiln::solver
