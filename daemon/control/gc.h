#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "daemon/config/config.h"
#include "daemon/rpc/fd_loop.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/base/thread_pool.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// The prune rules of a configuration, in order; none when it turns collection off. Without rules of
// its own: BuildKit's defaults (llb.md 5.7). `disk_bytes`: size of the disk the store is on.
std::vector<store::PruneOptions> GcPolicies(const GcConfig& config, int64_t disk_bytes);

// Keeps the store within its limits: about a second after the start and after builds, at most once
// a minute. Thread-safe.
class GarbageCollector {
 public:
  // `refs` outlives it, `timers` its last Nudge.
  GarbageCollector(store::RefStore* refs, std::vector<store::PruneOptions> policies,
                   FdLoop* timers);
  // Ends a run under way.
  ~GarbageCollector();

  // There may be something to remove.
  void Nudge();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace kiln::daemon
