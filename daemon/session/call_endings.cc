#include "daemon/session/call_endings.h"

#include <algorithm>
#include <utility>

namespace kiln::daemon {

CallEndings::CallEndings() : pool_("kiln-endings", kMaxCalls) {}

CallEndings::~CallEndings() {
  MutexLock lock(&mu_);
  for (const std::shared_ptr<Call>& call : calls_) call->Cancel();
}

void CallEndings::Await(std::unique_ptr<Call> call) {
  std::shared_ptr<Call> ending = std::move(call);
  {
    MutexLock lock(&mu_);
    calls_.push_back(ending);
    if (calls_.size() > kMaxCalls) {
      calls_.front()->Cancel();
      calls_.pop_front();
    }
  }
  pool_.Post([this, ending = std::move(ending)]() mutable {
    ending->AwaitEnd();
    {
      MutexLock lock(&mu_);
      const auto found = std::find(calls_.begin(), calls_.end(), ending);
      if (found != calls_.end()) calls_.erase(found);
    }
    ending.reset();
  });
}

}  // namespace kiln::daemon
