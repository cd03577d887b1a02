#pragma once

#include <memory>
#include <string>
#include <vector>

#include "proto/digest.h"
#include "solver/op.h"

namespace kiln::solver {

// A CacheMap as the engine keeps it, one for each of very many vertices: an op digest is its bytes
// and not their hex, and inputs of which the map says nothing special take no place. Immutable.
class KnownMap {
 public:
  explicit KnownMap(const CacheMap& map);

  std::string op_digest() const { return text_ != nullptr ? *text_ : digest_.ToString(); }
  // Whether the op digests are equal.
  bool SameOp(const KnownMap& other) const;
  // Whether it names what will not come again ("random:…").
  bool random() const;
  // Tells op digests apart nearly always.
  uint64_t prefix() const;

  // Of an input that the op has.
  const CacheMapInput& input(size_t index) const;
  bool final() const { return final_; }

 private:
  Digest digest_;                            // of the op, or of its text
  std::unique_ptr<const std::string> text_;  // an op digest of another kind; null: none
  std::unique_ptr<const std::vector<CacheMapInput>> inputs_;  // null: nothing special about any
  bool final_;
};

}  // namespace kiln::solver
