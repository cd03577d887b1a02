#include "client/progress/ticker.h"

#include <utility>

namespace kiln::client {

Ticker::Ticker(absl::Duration interval, std::function<void()> tick) : tick_(std::move(tick)) {
  thread_ = std::thread([this, interval] { Run(interval); });
}

Ticker::~Ticker() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.Signal();
  }
  thread_.join();
}

void Ticker::Run(absl::Duration interval) {
  MutexLock lock(&mu_);
  while (!stopping_) {
    changed_.WaitFor(&mu_, interval);
    if (stopping_) return;
    mu_.Unlock();
    tick_();
    mu_.Lock();
  }
}

}  // namespace kiln::client
