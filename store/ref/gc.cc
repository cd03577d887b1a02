#include "store/ref/gc.h"

#include <pthread.h>

#include <utility>

#include "absl/time/clock.h"
#include "spdlog/spdlog.h"

namespace kiln::store {

GarbageCollector::GarbageCollector(GcOptions options, Prune prune)
    : options_(std::move(options)), prune_(std::move(prune)), thread_([this] { Loop(); }) {}

GarbageCollector::~GarbageCollector() {
  stop_.Cancel(absl::CancelledError("the daemon is stopping"));
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

void GarbageCollector::Wake() {
  MutexLock lock(&mu_);
  wanted_ = true;
  changed_.SignalAll();
}

void GarbageCollector::Loop() {
  ::pthread_setname_np(::pthread_self(), "gc");
  absl::Time next = absl::Now() + options_.first_after;
  for (;;) {
    {
      MutexLock lock(&mu_);
      for (;;) {
        if (stopping_) return;
        const absl::Duration left = next - absl::Now();
        if (wanted_ && left <= absl::ZeroDuration()) break;
        if (wanted_) {
          changed_.WaitFor(&mu_, left);
        } else {
          changed_.Wait(&mu_);
        }
      }
      wanted_ = false;
    }
    for (const PruneOptions& policy : options_.policies) {
      const absl::Status status = prune_(policy, stop_.token());
      if (!status.ok() && !absl::IsCancelled(status))
        spdlog::warn("garbage collection: {}", status.ToString());
    }
    next = absl::Now() + options_.at_most_every;
  }
}

}  // namespace kiln::store
