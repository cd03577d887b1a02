#include "daemon/control/gc.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

namespace kiln::daemon {

namespace {

constexpr absl::Duration kSoon = absl::Seconds(1);
constexpr absl::Duration kBetweenRuns = absl::Minutes(1);
constexpr int64_t kDefaultTemporaryBytes = 512'000'000;

}  // namespace

std::vector<store::PruneOptions> GcPolicies(const GcConfig& config, int64_t disk_bytes) {
  if (!config.enabled) return {};
  std::vector<store::PruneOptions> policies;
  for (const GcPolicyConfig& rule : config.policies) {
    store::PruneOptions options;
    options.filters = rule.filters;
    options.all = rule.all;
    options.keep_duration = rule.keep_duration;
    options.reserved_bytes = rule.reserved.Bytes(disk_bytes);
    options.max_used_bytes = rule.max_used.Bytes(disk_bytes);
    options.min_free_bytes = rule.min_free.Bytes(disk_bytes);
    policies.push_back(std::move(options));
  }
  if (!policies.empty()) return policies;

  DiskSpace reserved = config.reserved, max_used = config.max_used, min_free = config.min_free;
  store::PruneOptions limits;
  limits.reserved_bytes = reserved.Bytes(disk_bytes);
  limits.max_used_bytes = max_used.Bytes(disk_bytes);
  limits.min_free_bytes = min_free.Bytes(disk_bytes);
  if (reserved.empty() && max_used.empty() && min_free.empty()) {
    limits.reserved_bytes = std::min<int64_t>(DiskSpace{0, 10}.Bytes(disk_bytes), 10'000'000'000);
    limits.max_used_bytes = std::min<int64_t>(DiskSpace{0, 80}.Bytes(disk_bytes), 100'000'000'000);
    limits.min_free_bytes = DiskSpace{0, 20}.Bytes(disk_bytes);
  }
  store::PruneOptions temporary;
  temporary.filters = {"type==source.local", "type==exec.cachemount", "type==source.git.checkout"};
  temporary.keep_duration = absl::Hours(48);
  temporary.max_used_bytes = kDefaultTemporaryBytes;
  store::PruneOptions old = limits;
  old.keep_duration = absl::Hours(24 * 60);
  store::PruneOptions all = limits;
  all.all = true;
  return {temporary, old, limits, all};
}

// Shared with timers that are still to come.
struct GarbageCollector::State {
  store::RefStore* refs;
  std::vector<store::PruneOptions> policies;
  FdLoop* timers;
  CancelSource stop;
  std::unique_ptr<ThreadPool> pool;  // null once stopped

  Mutex mu;
  bool scheduled ABSL_GUARDED_BY(mu) = false;
  bool wanted ABSL_GUARDED_BY(mu) = false;  // nudged while scheduled or running

  void Run() {
    {
      MutexLock lock(&mu);
      wanted = false;
    }
    int64_t removed = 0, bytes = 0;
    for (const store::PruneOptions& policy : policies) {
      if (stop.token().Cancelled()) break;
      const absl::Status status =
          refs->Prune(policy, stop.token(), [&](const store::UsageInfo& info) {
            ++removed;
            bytes += info.size_bytes;
          });
      if (!status.ok() && !stop.token().Cancelled())
        spdlog::warn("garbage collection: {}", std::string(status.message()));
    }
    if (removed > 0) spdlog::info("garbage collection: {} records, {} bytes", removed, bytes);
  }
};

GarbageCollector::GarbageCollector(store::RefStore* refs, std::vector<store::PruneOptions> policies,
                                   FdLoop* timers)
    : state_(std::make_shared<State>()) {
  state_->refs = refs;
  state_->policies = std::move(policies);
  state_->timers = timers;
  state_->pool = std::make_unique<ThreadPool>("kiln-gc", 1);
  Nudge();
}

GarbageCollector::~GarbageCollector() {
  state_->stop.Cancel();
  std::unique_ptr<ThreadPool> pool;  // joined after the lock is gone
  {
    MutexLock lock(&state_->mu);
    pool = std::move(state_->pool);
  }
}

void GarbageCollector::Nudge() {
  if (state_->policies.empty()) return;
  {
    MutexLock lock(&state_->mu);
    state_->wanted = true;
    if (std::exchange(state_->scheduled, true)) return;
  }
  state_->timers->PostAfter(kSoon, [state = state_] {
    MutexLock lock(&state->mu);
    if (state->pool == nullptr) return;
    state->pool->Post([raw = state.get()] { raw->Run(); });
    // Until the pause is over, nudges only ask for another run.
    state->timers->PostAfter(kBetweenRuns, [state] {
      MutexLock relock(&state->mu);
      state->scheduled = false;
      if (!std::exchange(state->wanted, false) || state->pool == nullptr) return;
      state->pool->Post([raw = state.get()] { raw->Run(); });
    });
  });
}

}  // namespace kiln::daemon
