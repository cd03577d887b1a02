#pragma once

#include <cstddef>

#include "absl/functional/any_invocable.h"
#include "store/base/mutex.h"
#include "store/base/thread_pool.h"

namespace kiln::store {

// The CPU and memory that all compressions of the daemon share: threads that compress blocks, and
// blocks that exist at the same time, waiting or done. Thread-safe.
class CompressionBudget {
 public:
  // `max_blocks`: each is at most one codec's block and its compressed form (8 MiB and the like).
  CompressionBudget(size_t threads, size_t max_blocks);

  // One block per processor in work and one waiting.
  static CompressionBudget& OfProcess();

  size_t threads() const { return threads_; }

  // Takes the right to one more block; false when all are taken.
  bool TryAcquire();
  // Waits for it. Whoever waits holds none itself, so somebody else will release one.
  void Acquire();
  void Release();

  void Run(absl::AnyInvocable<void()> work) { pool_.Post(std::move(work)); }

 private:
  const size_t threads_;
  Mutex mu_;
  CondVar released_;
  size_t free_ ABSL_GUARDED_BY(mu_);
  ThreadPool pool_;
};

}  // namespace kiln::store
