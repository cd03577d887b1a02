#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "solver/internal/known_map.h"
#include "store/cache_index.h"

namespace kiln::solver {

// Keys of each input of an op, in one piece and without the text of selectors: every execution
// keeps its own.
class KeySets {
 public:
  struct Key {
    store::KeyId id;
    uint32_t input : 31;
    uint32_t selected : 1;  // bound to the selector that the op's cache map gives the input

    friend bool operator==(const Key& a, const Key& b) {
      return a.input == b.input && a.selected == b.selected && a.id == b.id;
    }
  };

  // Of an op with so many inputs, none of which has a key yet.
  explicit KeySets(size_t inputs = 0) : inputs_(static_cast<uint32_t>(inputs)) {}

  // Input by input, the first one first.
  void Add(size_t input, const store::KeyId& id, bool selected) {
    keys_.push_back({id, static_cast<uint32_t>(input), selected});
  }

  uint32_t inputs() const { return inputs_; }
  absl::Span<const Key> all() const { return keys_; }
  // In O(log of all keys).
  absl::Span<const Key> of(uint32_t input) const;
  bool Contains(const Key& key) const;

  // As the index takes them; `map` is the op's.
  std::vector<std::vector<store::InputKey>> Expand(const KnownMap& map) const;

 private:
  absl::InlinedVector<Key, 1> keys_;  // sorted by input
  uint32_t inputs_;
};

}  // namespace kiln::solver
