#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/rpc/fd_loop.h"
#include "daemon/session/session.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// When a client that does not answer counts as gone (BuildKit session, health check).
struct HealthPolicy {
  absl::Duration interval = absl::Seconds(5);
  absl::Duration timeout = absl::Seconds(15);  // or 1.5 times the last answer's time, if longer
  int failures = 2;                            // in a row
};

// Counts calls under way, so that what their callbacks use can be destroyed after them.
// Thread-safe.
class HealthCalls {
 public:
  void Begin() {
    MutexLock lock(&mu_);
    ++count_;
  }
  void End() {
    MutexLock lock(&mu_);
    if (--count_ == 0) none_.SignalAll();
  }
  void WaitUntilNone() {
    MutexLock lock(&mu_);
    while (count_ > 0) none_.Wait(&mu_);
  }

 private:
  Mutex mu_;
  CondVar none_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
};

// Calls grpc.health.v1.Health/Check on the session every `interval` until it closes; after too many
// failures calls `dead` once. Does not keep the session alive. `loop` and `calls` outlive the
// session and the calls.
void WatchHealth(FdLoop* loop, HealthCalls* calls, const SessionPtr& session,
                 const HealthPolicy& policy, std::function<void(absl::Status)> dead);

}  // namespace kiln::daemon
