#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "store/base/mutex.h"
#include "store/base/thread_pool.h"

namespace kiln::daemon {

// Calls whose work is done and whose peer has still to say so. Keeping them here, nobody who needs
// the work's result has to wait for it. A peer that never does costs the call's memory, and only so
// many: the call that waits longest is cancelled for one more. Thread-safe.
class CallEndings {
 public:
  class Call {
   public:
    virtual ~Call() = default;
    // `ended` is called once the peer has ended the call, or after Cancel; maybe at once.
    virtual void WhenEnded(std::function<void()> ended) = 0;
    // Ends it at once. Thread-safe, never blocks.
    virtual void Cancel() = 0;
  };

  static constexpr size_t kMaxCalls = 256;

  CallEndings();
  // Cancels what has not ended.
  ~CallEndings();

  // Never blocks.
  void Await(std::unique_ptr<Call> call);

 private:
  void Ended(uint64_t id);

  Mutex mu_;
  CondVar gone_;
  uint64_t next_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t cancelled_before_ ABSL_GUARDED_BY(mu_) = 1;  // each one with a lower id
  std::map<uint64_t, std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mu_);
  // Destroys calls, which must not happen where they end. Last: its thread uses the rest.
  ThreadPool pool_;
};

}  // namespace kiln::daemon
