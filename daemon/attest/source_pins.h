#pragma once

#include <deque>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "proto/digest.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// What source vertices resolved to, by the vertex's digest, for provenance. Bounded: the oldest are
// forgotten, and the provenance of a build that needs them says that it is incomplete.
// Thread-safe.
class SourcePins {
 public:
  void Record(const Digest& vertex, const std::string& pin) {
    if (pin.empty()) return;
    MutexLock lock(&mu_);
    if (!pins_.insert_or_assign(vertex, pin).second) return;
    order_.push_back(vertex);
    if (order_.size() <= kMost) return;
    pins_.erase(order_.front());
    order_.pop_front();
  }

  // "" when unknown.
  std::string Find(const Digest& vertex) const {
    MutexLock lock(&mu_);
    const auto found = pins_.find(vertex);
    return found == pins_.end() ? "" : found->second;
  }

 private:
  static constexpr size_t kMost = 65536;
  mutable Mutex mu_;
  absl::flat_hash_map<Digest, std::string> pins_ ABSL_GUARDED_BY(mu_);
  std::deque<Digest> order_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
