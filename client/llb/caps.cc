#include "client/llb/caps.h"

#include <algorithm>

namespace kiln::client::llb {
namespace {

constexpr bool Sorted() {
  for (size_t i = 1; i < std::size(kBuilderCaps); ++i)
    if (kBuilderCaps[i - 1].compare(kBuilderCaps[i]) >= 0) return false;
  return true;
}
static_assert(Sorted());

}  // namespace

void CapSet::AddById(absl::string_view id) {
  const auto* const known = std::lower_bound(std::begin(kBuilderCaps), std::end(kBuilderCaps), id);
  if (known != std::end(kBuilderCaps) && *known == id) {
    known_ |= uint64_t{1} << (known - std::begin(kBuilderCaps));
    return;
  }
  const auto at = std::lower_bound(other_.begin(), other_.end(), id);
  if (at == other_.end() || *at != id) other_.emplace(at, id);
}

void CapSet::AddAll(const CapSet& other) {
  known_ |= other.known_;
  for (const std::string& id : other.other_) AddById(id);
}

void CapSet::ForEach(absl::FunctionRef<void(absl::string_view id)> visit) const {
  auto other = other_.begin();
  for (uint64_t rest = known_; rest != 0; rest &= rest - 1) {
    const absl::string_view id = kBuilderCaps[__builtin_ctzll(rest)];
    for (; other != other_.end() && *other < id; ++other) visit(*other);
    visit(id);
  }
  for (; other != other_.end(); ++other) visit(*other);
}

}  // namespace kiln::client::llb
