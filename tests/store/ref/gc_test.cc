#include "store/ref/gc.h"

#include <atomic>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kiln::store {
namespace {

// Counts the policies that were run and lets the test wait for them.
class Runs {
 public:
  absl::Status Prune(const PruneOptions& options, const CancelToken&) {
    MutexLock lock(&mu_);
    seen_.push_back(options.max_used_bytes);
    changed_.SignalAll();
    return absl::InternalError("one policy's failure does not stop the next");
  }
  std::vector<int64_t> WaitFor(size_t count) {
    MutexLock lock(&mu_);
    while (seen_.size() < count) changed_.Wait(&mu_);
    return seen_;
  }
  GarbageCollector::Prune Function() {
    return [this](const PruneOptions& options, const CancelToken& cancel) {
      return Prune(options, cancel);
    };
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::vector<int64_t> seen_;
};

GcOptions TwoPolicies() {
  GcOptions options;
  options.policies.resize(2);
  options.policies[0].max_used_bytes = 1;
  options.policies[1].max_used_bytes = 2;
  options.first_after = absl::ZeroDuration();
  options.at_most_every = absl::ZeroDuration();
  return options;
}

TEST(GarbageCollectorTest, RunsThePoliciesInOrderAfterTheStartAndWhenWoken) {
  Runs runs;
  GarbageCollector gc(TwoPolicies(), runs.Function());
  EXPECT_THAT(runs.WaitFor(2), testing::ElementsAre(1, 2));
  gc.Wake();
  EXPECT_THAT(runs.WaitFor(4), testing::ElementsAre(1, 2, 1, 2));
}

TEST(GarbageCollectorTest, WaitsOutTheIntervalAndStopsAtOnce) {
  Runs runs;
  GcOptions options = TwoPolicies();
  options.at_most_every = absl::Hours(1);
  GarbageCollector gc(options, runs.Function());
  runs.WaitFor(2);
  gc.Wake();
  EXPECT_THAT(runs.WaitFor(2), testing::SizeIs(2));
}

TEST(GarbageCollectorTest, TheEndCancelsARun) {
  Mutex mu;
  CondVar changed;
  bool running = false;
  absl::Status seen;
  {
    GcOptions options = TwoPolicies();
    options.policies.resize(1);
    GarbageCollector gc(options, [&](const PruneOptions&, const CancelToken& cancel) {
      {
        MutexLock lock(&mu);
        running = true;
        changed.SignalAll();
      }
      seen = cancel.SleepFor(absl::Hours(1));
      return seen;
    });
    MutexLock lock(&mu);
    while (!running) changed.Wait(&mu);
  }
  EXPECT_EQ(seen.code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace kiln::store
