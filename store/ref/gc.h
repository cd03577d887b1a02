#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/ref_store.h"

namespace kiln::store {

struct GcOptions {
  std::vector<PruneOptions> policies;  // run in order; empty: nothing is ever collected
  absl::Duration first_after = absl::Seconds(1);
  absl::Duration at_most_every = absl::Minutes(1);
};

// GarbageCollector runs the prune policies on a thread of its own: soon after the start, and after
// builds. An error of one policy is logged and the next one runs. Thread-safe.
class GarbageCollector {
 public:
  using Prune = std::function<absl::Status(const PruneOptions&, const CancelToken&)>;

  GarbageCollector(GcOptions options, Prune prune);
  // Cancels a run and waits for its end.
  ~GarbageCollector();
  GarbageCollector(const GarbageCollector&) = delete;
  GarbageCollector& operator=(const GarbageCollector&) = delete;

  // A build ended. Never blocks; wakes within the minute become one run.
  void Wake();

 private:
  void Loop();

  const GcOptions options_;
  const Prune prune_;
  CancelSource stop_;
  Mutex mu_;
  CondVar changed_;
  bool wanted_ ABSL_GUARDED_BY(mu_) = true;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // last
};

}  // namespace kiln::store
