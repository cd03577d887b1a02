// Pruning (llb.md 5.7).
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/status_macros.h"
#include "store/filter.h"
#include "store/ref/node.h"
#include "store/ref/prune_plan.h"
#include "store/ref/usage_list.h"

namespace kiln::store {
namespace {

// How many deletions one ranking serves: each its own while there are few candidates, so that the
// order is exactly that of deleting and ranking anew.
size_t DeletionsPerRanking(size_t candidates) { return std::max<size_t>(1, candidates / 64); }

bool HasLimits(const PruneOptions& options) {
  return options.reserved_bytes != 0 || options.max_used_bytes != 0 || options.min_free_bytes != 0;
}

// What options exclude for good; whether it is held or has children changes meanwhile.
bool MayGo(const PruneOptions& options, const Filter& filter, absl::Time now,
           const UsageInfo& info) {
  if (!options.all &&
      (info.record_type == "internal" || info.record_type == "frontend" || info.shared))
    return false;
  if (options.keep_duration != absl::ZeroDuration() && info.last_used_at != absl::InfinitePast() &&
      info.last_used_at > now - options.keep_duration)
    return false;
  UsageInfo seen = info;  // prune's filters know neither parents nor use
  seen.parents.clear();
  seen.in_use = false;
  return MatchesUsage(filter, seen);
}

}  // namespace

absl::StatusOr<int64_t> LocalRefStore::FreeBytes() const {
  struct statvfs fs = {};
  if (::statvfs(root_.path().c_str(), &fs) != 0)
    return ErrnoStatus(errno, absl::StrCat("free space of ", root_.path()));
  return static_cast<int64_t>(fs.f_bavail) * static_cast<int64_t>(fs.f_frsize);
}

// True when the running total says that there is nothing to do, without a look at all records. It
// may drift a little; a run that goes on counts anew.
absl::StatusOr<bool> LocalRefStore::BelowTarget(const PruneOptions& options, int64_t free_bytes) {
  std::vector<std::string> unsized;
  {
    MutexLock lock(&mu_);
    if (!totals_known_) return false;
    unsized.assign(unsized_.begin(), unsized_.end());
  }
  for (const std::string& id : unsized) KILN_RETURN_IF_ERROR(MeasureSize(id).status());
  int64_t total;
  {
    MutexLock lock(&mu_);
    total = known_bytes_;
  }
  const int64_t keep = BytesToKeep(options, total, free_bytes);
  return keep != 0 && total < keep;
}

absl::Status LocalRefStore::Prune(const PruneOptions& options, const CancelToken& cancel,
                                  absl::AnyInvocable<void(const UsageInfo&)> removed) {
  KILN_ASSIGN_OR_RETURN(const Filter filter, Filter::Parse(options.filters));
  MutexLock one_at_a_time(&prune_mu_);
  int64_t free_bytes = 0, keep = 0, total = 0;
  if (HasLimits(options)) {
    KILN_ASSIGN_OR_RETURN(free_bytes, FreeBytes());
    KILN_ASSIGN_OR_RETURN(const bool below, BelowTarget(options, free_bytes));
    if (below) return absl::OkStatus();
  }
  KILN_ASSIGN_OR_RETURN(UsageList list, ListUsage());
  if (HasLimits(options)) {
    KILN_ASSIGN_OR_RETURN(total, MeasureAll(list, cancel));
    keep = BytesToKeep(options, total, free_bytes);
  }

  const absl::Time now = absl::Now();
  std::vector<bool> may_go(list.items.size());
  std::vector<size_t> candidates;
  for (size_t i = 0; i < list.items.size(); ++i) {
    const UsageList::Item& item = list.items[i];
    may_go[i] = !item.info.in_use && MayGo(options, filter, now, item.info);
    if (may_go[i] && item.children == 0) candidates.push_back(i);
  }
  // Deletes one; its parents may become candidates, and are added to `candidates`.
  auto remove = [&](size_t i) -> absl::Status {
    UsageInfo& info = list.items[i].info;
    if (info.size_bytes < 0) {
      KILN_ASSIGN_OR_RETURN(info.size_bytes, MeasureSize(info.id));
    }
    absl::StatusOr<Removal> result = Remove(info.id, /*with_twin=*/true, nullptr);
    if (absl::IsNotFound(result.status())) return absl::OkStatus();
    KILN_RETURN_IF_ERROR(result.status());
    if (*result != Removal::kRemoved) return absl::OkStatus();  // taken into use meanwhile
    total -= info.size_bytes;
    for (const std::string& parent : info.parents) {
      auto found = list.by_id.find(parent);
      if (found == list.by_id.end()) continue;
      if (--list.items[found->second].children == 0 && may_go[found->second])
        candidates.push_back(found->second);
    }
    if (removed) removed(info);
    return absl::OkStatus();
  };

  if (keep == 0) {
    while (!candidates.empty()) {
      KILN_RETURN_IF_ERROR(cancel.status());
      const size_t i = candidates.back();
      candidates.pop_back();
      KILN_RETURN_IF_ERROR(remove(i));
    }
    return absl::OkStatus();
  }
  while (!candidates.empty() && total >= keep) {
    std::vector<PruneRank> ranks;
    for (const size_t i : candidates) {
      const UsageInfo& info = list.items[i].info;
      ranks.push_back({info.last_used_at, info.usage_count, info.created_at, info.id});
    }
    std::vector<size_t> doomed;
    for (const size_t rank : DeletionOrder(ranks)) {
      if (doomed.size() == DeletionsPerRanking(candidates.size())) break;
      doomed.push_back(candidates[rank]);
    }
    for (const size_t i : doomed) {
      if (total < keep) return absl::OkStatus();
      KILN_RETURN_IF_ERROR(cancel.status());
      candidates.erase(std::find(candidates.begin(), candidates.end(), i));
      KILN_RETURN_IF_ERROR(remove(i));
    }
  }
  return absl::OkStatus();
}

}  // namespace kiln::store
