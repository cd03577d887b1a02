#pragma once

#include <deque>
#include <memory>

#include "store/base/mutex.h"
#include "store/base/thread_pool.h"

namespace kiln::daemon {

// Calls whose work is done and whose peer has still to say so. Waiting for it here, nobody who
// needs the work's result has to. A peer that never does costs one thread, and only so many: the
// call that waits longest is cancelled for one more. Thread-safe.
class CallEndings {
 public:
  class Call {
   public:
    virtual ~Call() = default;
    // Blocks until the peer ended the call, or after Cancel.
    virtual void AwaitEnd() = 0;
    // Ends it at once. Thread-safe, never blocks.
    virtual void Cancel() = 0;
  };

  static constexpr size_t kMaxCalls = 32;

  CallEndings();
  // Cancels what has not ended.
  ~CallEndings();

  // Never blocks.
  void Await(std::unique_ptr<Call> call);

 private:
  Mutex mu_;
  std::deque<std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mu_);  // longest first
  ThreadPool pool_;                                               // last: its threads use the rest
};

}  // namespace kiln::daemon
