#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "store/base/mutex.h"
#include "store/cache_index.h"

namespace kiln::solver {

// The latest results of vertices whose key is of one session ("random:…"). Nobody meets such a key
// once the session is gone, so it is not for the index, which would grow with every build.
// Thread-safe; O(1).
class SessionResults {
 public:
  // A result saved again under its key replaces the earlier one.
  void Save(const store::KeyId& key, store::CacheRecord record) {
    MutexLock lock(&mu_);
    const auto [at, added] = records_.insert_or_assign(key, std::move(record));
    if (!added) return;
    order_.push_back(key);
    if (order_.size() <= kMaxResults) return;
    records_.erase(order_.front());
    order_.pop_front();
  }

  std::optional<store::CacheRecord> Find(const store::KeyId& key) const {
    MutexLock lock(&mu_);
    const auto found = records_.find(key);
    if (found == records_.end()) return std::nullopt;
    return found->second;
  }

  static constexpr size_t kMaxResults = 4096;

 private:
  mutable Mutex mu_;
  absl::flat_hash_map<store::KeyId, store::CacheRecord> records_ ABSL_GUARDED_BY(mu_);
  std::deque<store::KeyId> order_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::solver
