#include "solver/internal/known_map.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "solver/internal/digest_hash.h"

namespace kiln::solver {

KnownMap::KnownMap(const CacheMap& map) : final_(map.final) {
  if (absl::StatusOr<Digest> digest = Digest::Parse(map.op_digest); digest.ok()) {
    digest_ = *digest;
  } else {
    digest_ = Digest::Of(map.op_digest);
    text_ = std::make_unique<const std::string>(map.op_digest);
  }
  const auto special = [](const CacheMapInput& input) {
    return input.content_key || !input.selector.empty();
  };
  if (std::any_of(map.inputs.begin(), map.inputs.end(), special))
    inputs_ = std::make_unique<const std::vector<CacheMapInput>>(map.inputs);
}

bool KnownMap::SameOp(const KnownMap& other) const {
  return digest_ == other.digest_ && (text_ == nullptr) == (other.text_ == nullptr) &&
         (text_ == nullptr || *text_ == *other.text_);
}

bool KnownMap::random() const { return text_ != nullptr && absl::StartsWith(*text_, "random:"); }

uint64_t KnownMap::prefix() const { return DigestHash::Prefix(digest_); }

const CacheMapInput& KnownMap::input(size_t index) const {
  static const CacheMapInput* const plain = new CacheMapInput();
  return inputs_ == nullptr ? *plain : (*inputs_)[index];
}

}  // namespace kiln::solver
