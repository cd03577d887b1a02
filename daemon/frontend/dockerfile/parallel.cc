#include "daemon/frontend/dockerfile/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

absl::Status RunInParallel(const std::vector<std::function<absl::Status()>>& tasks) {
  constexpr size_t kMaxThreads = 16;
  std::vector<absl::Status> results(tasks.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < tasks.size(); i = next++) results[i] = tasks[i]();
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(tasks.size(), kMaxThreads); ++i) threads.emplace_back(work);
  work();  // the caller is one of them
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) KILN_RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

}  // namespace kiln::daemon::dockerfile
