#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

// absl::Mutex normally; std::mutex under ThreadSanitizer, because Debian's Abseil is not
// instrumented and TSan would see no synchronisation in it.
#if defined(__SANITIZE_THREAD__)
#define KILN_STD_MUTEX 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KILN_STD_MUTEX 1
#endif
#endif

#ifdef KILN_STD_MUTEX
#include <algorithm>
#include <condition_variable>
#include <mutex>
#else
#include "absl/synchronization/mutex.h"
#endif

namespace kiln {

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
#ifdef KILN_STD_MUTEX
    mu_.lock();
#else
    mu_.Lock();
#endif
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
#ifdef KILN_STD_MUTEX
    mu_.unlock();
#else
    mu_.Unlock();
#endif
  }

 private:
  friend class CondVar;
#ifdef KILN_STD_MUTEX
  std::mutex mu_;
#else
  absl::Mutex mu_;
#endif
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : mu_(mu) { mu_->Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mu_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mu_;
};

// Waits may wake without cause: always wait in a loop over the condition.
class CondVar {
 public:
  void Wait(Mutex* mu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
#ifdef KILN_STD_MUTEX
    std::unique_lock<std::mutex> lock(mu->mu_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
#else
    cv_.Wait(&mu->mu_);
#endif
  }

  // False when `timeout`, which may be infinite, passed without a signal.
  bool WaitFor(Mutex* mu, absl::Duration timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
#ifdef KILN_STD_MUTEX
    std::unique_lock<std::mutex> lock(mu->mu_, std::adopt_lock);
    // Counted from now, what std::chrono holds at most lies in the past.
    const absl::Duration some_years = absl::Hours(100'000);
    const std::cv_status status =
        cv_.wait_for(lock, absl::ToChronoNanoseconds(std::min(timeout, some_years)));
    lock.release();
    return status == std::cv_status::no_timeout;
#else
    return !cv_.WaitWithTimeout(&mu->mu_, timeout);
#endif
  }

  void Signal() {
#ifdef KILN_STD_MUTEX
    cv_.notify_one();
#else
    cv_.Signal();
#endif
  }
  void SignalAll() {
#ifdef KILN_STD_MUTEX
    cv_.notify_all();
#else
    cv_.SignalAll();
#endif
  }

 private:
#ifdef KILN_STD_MUTEX
  std::condition_variable cv_;
#else
  absl::CondVar cv_;
#endif
};

}  // namespace kiln
