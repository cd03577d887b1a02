#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/ops/exec.h"
#include "solver/op.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// Passes a step's output on as vertex logs, up to the limits for each stream; says once when it
// withholds, and keeps the end of what it withheld for a step that fails. Thread-safe.
class StepLog {
 public:
  // `sink` outlives this.
  StepLog(solver::ProgressSink* sink, LogLimits limits,
          std::function<absl::Time()> now = absl::Now);

  // stream 1 or 2.
  void Write(int stream, absl::string_view data);
  // For a failed step: the last 256 KiB that were withheld, of each stream.
  void FlushWithheld();

 private:
  struct Stream {
    int64_t seen = 0;  // bytes written by the step
    bool withholding = false;
    std::string tail;
  };
  int64_t Allowance(bool* by_speed) const;
  void Send(int stream, std::string data);

  solver::ProgressSink* const sink_;
  const LogLimits limits_;
  const std::function<absl::Time()> now_;
  const absl::Time started_;
  Mutex mu_;
  Stream streams_[2] ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
