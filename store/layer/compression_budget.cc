#include "store/layer/compression_budget.h"

#include <algorithm>
#include <thread>

namespace kiln::store {

CompressionBudget::CompressionBudget(size_t threads, size_t max_blocks)
    : threads_(threads), free_(max_blocks), pool_("layer-compress", threads) {}

CompressionBudget& CompressionBudget::OfProcess() {
  static const size_t threads = std::max<size_t>(1, std::thread::hardware_concurrency());
  static auto* const budget = new CompressionBudget(threads, 2 * threads + 2);
  return *budget;
}

bool CompressionBudget::TryAcquire() {
  MutexLock lock(&mu_);
  if (free_ == 0) return false;
  --free_;
  return true;
}

void CompressionBudget::Acquire() {
  MutexLock lock(&mu_);
  while (free_ == 0) released_.Wait(&mu_);
  --free_;
}

void CompressionBudget::Release() {
  MutexLock lock(&mu_);
  ++free_;
  released_.Signal();
}

}  // namespace kiln::store
