#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "solver/op.h"

namespace kiln::daemon {

// One line of progress that counts bytes, sent at most every 100 ms; completed when destroyed.
// Not thread-safe.
class TransferProgress {
 public:
  // `sink` outlives this; `id` is the text shown, `name` the action.
  TransferProgress(solver::ProgressSink& sink, std::string id, std::string name);
  ~TransferProgress();
  TransferProgress(const TransferProgress&) = delete;
  TransferProgress& operator=(const TransferProgress&) = delete;

  // `total` 0: unknown.
  void Update(int64_t current, int64_t total = 0);

 private:
  solver::ProgressSink& sink_;
  solver::StatusUpdate status_;
  absl::Time next_;
};

}  // namespace kiln::daemon
