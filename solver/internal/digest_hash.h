#pragma once

#include <cstdint>
#include <cstring>

#include "absl/hash/hash.h"
#include "proto/digest.h"

namespace kiln::solver {

// For maps by digest that are asked very often: the bytes of a digest are evenly spread already, so
// eight of them tell as much as all.
struct DigestHash {
  size_t operator()(const Digest& digest) const { return absl::HashOf(Prefix(digest)); }
  static uint64_t Prefix(const Digest& digest) {
    uint64_t prefix;
    std::memcpy(&prefix, digest.raw().data(), sizeof(prefix));
    return prefix;
  }
};

}  // namespace kiln::solver
