#include "store/ref/prune_plan.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace kiln::store {
namespace {

// Position of each rank among the distinct values of one kind, over the number of positions, which
// both start at one (BuildKit counts the place before the first as well).
template <typename Key>
std::vector<double> Positions(absl::Span<const PruneRank> ranks, Key key,
                              decltype(key(PruneRank())) before_first) {
  std::vector<size_t> order(ranks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return key(ranks[a]) < key(ranks[b]); });
  std::vector<double> position(ranks.size());
  double last = 1.0;
  auto value = before_first;
  for (const size_t i : order) {
    if (key(ranks[i]) > value) {
      value = key(ranks[i]);
      last += 1.0;
    }
    position[i] = last;
  }
  for (double& p : position) p /= last;
  return position;
}

}  // namespace

int64_t BytesToKeep(const PruneOptions& options, int64_t total_bytes, int64_t free_bytes) {
  if (options.max_used_bytes == 0 && options.reserved_bytes == 0 && options.min_free_bytes == 0)
    return 0;
  int64_t keep = options.max_used_bytes;
  const int64_t excess = options.min_free_bytes - free_bytes;
  if (options.min_free_bytes != 0 && excess > 0) {
    keep = keep == 0 ? total_bytes - excess : std::min(keep, total_bytes - excess);
  } else if (options.min_free_bytes != 0 && keep == 0) {
    keep = total_bytes + 1;  // enough is free: nothing to do, however much is there
  }
  return std::max(keep, options.reserved_bytes);
}

std::vector<size_t> DeletionOrder(absl::Span<const PruneRank> ranks) {
  const std::vector<double> by_use = Positions(
      ranks, [](const PruneRank& rank) { return rank.last_used_at; }, absl::InfinitePast());
  const std::vector<double> by_count = Positions(
      ranks, [](const PruneRank& rank) { return rank.usage_count; }, int64_t{0});
  std::vector<size_t> order(ranks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  auto key = [&](size_t i) {
    return std::make_tuple(by_use[i] + by_count[i], ranks[i].created_at,
                           absl::string_view(ranks[i].id));
  };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
  return order;
}

}  // namespace kiln::store
