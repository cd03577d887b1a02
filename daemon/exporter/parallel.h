#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// Calls `work` for 0 … count - 1, at most `width` at the same time, on threads that end with it.
// After a failure no further call is started; the first failure is returned. Blocks.
inline absl::Status RunParallel(size_t count, size_t width,
                                const std::function<absl::Status(size_t index)>& work) {
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  Mutex mu;
  absl::Status first;
  const auto run = [&] {
    for (size_t i = next++; i < count && !failed; i = next++) {
      const absl::Status status = work(i);
      if (status.ok()) continue;
      MutexLock lock(&mu);
      first.Update(status);
      failed = true;
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(width, count); ++i) threads.emplace_back(run);
  run();
  for (std::thread& thread : threads) thread.join();
  return first;
}

}  // namespace kiln::daemon
