#include "daemon/session/call_endings.h"

#include <utility>

namespace kiln::daemon {

CallEndings::CallEndings() : pool_("kiln-endings", 1) {}

CallEndings::~CallEndings() {
  std::map<uint64_t, std::shared_ptr<Call>> calls;
  {
    MutexLock lock(&mu_);
    calls = calls_;
  }
  for (const auto& [id, call] : calls) call->Cancel();
  calls.clear();
  MutexLock lock(&mu_);
  while (!calls_.empty()) gone_.Wait(&mu_);
}

void CallEndings::Await(std::unique_ptr<Call> call) {
  const std::shared_ptr<Call> ending = std::move(call);
  std::shared_ptr<Call> one_too_many;
  uint64_t id = 0;
  {
    MutexLock lock(&mu_);
    id = next_++;
    calls_.emplace(id, ending);
    if (calls_.size() > kMaxCalls) {
      const auto longest = calls_.lower_bound(cancelled_before_);
      one_too_many = longest->second;
      cancelled_before_ = longest->first + 1;
    }
  }
  if (one_too_many != nullptr) one_too_many->Cancel();
  ending->WhenEnded([this, id] { Ended(id); });
}

void CallEndings::Ended(uint64_t id) {
  pool_.Post([this, id] {
    std::shared_ptr<Call> ended;
    {
      MutexLock lock(&mu_);
      const auto found = calls_.find(id);
      ended = std::move(found->second);
      calls_.erase(found);
    }
    ended.reset();
    MutexLock lock(&mu_);
    gone_.SignalAll();
  });
}

}  // namespace kiln::daemon
