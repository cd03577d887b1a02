#pragma once

#include <chrono>
#include <condition_variable>

#include "store/base/deadline.h"
#include "store/base/mutex.h"

namespace kiln {

// A CondVar whose timed waits do not depend on the system's clock. Abseil's wait until a moment of
// that clock: an hour too long when it is set back by an hour meanwhile. Costs an allocation.
// Waits may wake without cause: always wait in a loop over the condition.
class SteadyCondVar {
 public:
  void Wait(Mutex* mu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    Held held{mu};
    changed_.wait(held);
  }
  // Returns at the deadline at the latest.
  void WaitUntil(Mutex* mu, const Deadline& deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    Held held{mu};
    const absl::Duration left = deadline.Left();
    if (left == absl::InfiniteDuration()) {
      changed_.wait(held);
    } else {
      changed_.wait_for(held, absl::ToChronoNanoseconds(left));
    }
  }
  void SignalAll() { changed_.notify_all(); }

 private:
  // A locked mutex as the standard library wants it.
  struct Held {
    void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu->Lock(); }
    void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu->Unlock(); }
    Mutex* mu;
  };
  std::condition_variable_any changed_;
};

}  // namespace kiln
