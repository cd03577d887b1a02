#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "store/base/mutex.h"

namespace kiln {

// Runs blocking work on at most `max_threads` threads, started as needed. One that had nothing to
// do for a while ends, down to a few that are kept, so that a burst leaves nothing. Of many posts
// in a row the first wakes a thread, and each thread that was woken wakes the next if there is
// more: the caller pays for one, and short work is done before many have come. Thread-safe. The
// destructor runs what is queued, then joins; it must not run on a thread of the pool.
class ThreadPool {
 public:
  static constexpr size_t kKeptThreads = 4;

  // `name` shows in thread lists; at most 15 characters.
  ThreadPool(std::string name, size_t max_threads, absl::Duration idle_time = absl::Seconds(20));
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // FIFO. Never blocks the caller.
  void Post(absl::AnyInvocable<void()> work);

  // Work queued but not yet started.
  size_t queued() const;
  size_t threads() const;

 private:
  void Run();
  // False: the calling thread is to end, and to join `before` then.
  bool Next(absl::AnyInvocable<void()>* work, std::thread* before);
  // Whether there is some; not when it has waited for long, or the pool ends.
  bool WaitForWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Unless one is on its way: a thread that is idle, or a new one.
  void WakeOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes the calling thread out of the pool. Returns the last one that left.
  std::thread Leave() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string name_;
  const size_t max_threads_;
  const absl::Duration idle_time_;
  mutable Mutex mu_;
  CondVar changed_;
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mu_);
  size_t idle_ ABSL_GUARDED_BY(mu_) = 0;
  // A thread was woken or started and has not looked yet. Always so while there is work and a
  // thread that could take it.
  bool waking_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
  std::thread left_ ABSL_GUARDED_BY(mu_);  // the last one that left, not joined yet
};

}  // namespace kiln
