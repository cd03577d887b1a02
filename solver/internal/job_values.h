#pragma once

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "solver/op.h"
#include "store/base/mutex.h"

namespace kiln::solver {

class JobValuesMap : public JobValues {
 public:
  absl::StatusOr<std::string> GetOrMake(
      const std::string& key, const std::function<absl::StatusOr<std::string>()>& make) override;

 private:
  Mutex mu_;
  CondVar changed_;
  absl::flat_hash_map<std::string, std::string> values_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<std::string> making_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::solver
