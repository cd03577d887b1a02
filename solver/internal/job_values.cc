#include "solver/internal/job_values.h"

namespace kiln::solver {

absl::StatusOr<std::string> JobValuesMap::GetOrMake(
    const std::string& key, const std::function<absl::StatusOr<std::string>()>& make) {
  {
    MutexLock lock(&mu_);
    for (;;) {
      const auto known = values_.find(key);
      if (known != values_.end()) return known->second;
      if (making_.insert(key).second) break;
      changed_.Wait(&mu_);
    }
  }
  absl::StatusOr<std::string> made = make();
  MutexLock lock(&mu_);
  making_.erase(key);
  if (made.ok()) values_.emplace(key, *made);
  changed_.SignalAll();
  return made;
}

}  // namespace kiln::solver
