#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "store/base/mutex.h"

namespace kiln {

// Runs blocking work on at most `max_threads` threads, started as needed and kept. Thread-safe.
// The destructor runs what is queued, then joins; it must not run on a thread of the pool.
class ThreadPool {
 public:
  // `name` shows in thread lists; at most 15 characters.
  ThreadPool(std::string name, size_t max_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // FIFO. Never blocks the caller.
  void Post(absl::AnyInvocable<void()> work);

  // Work queued but not yet started.
  size_t queued() const;

 private:
  void Run();

  const std::string name_;
  const size_t max_threads_;
  mutable Mutex mu_;
  CondVar changed_;
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mu_);
  size_t idle_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln
