#pragma once

#include <functional>
#include <thread>

#include "absl/time/time.h"
#include "store/base/mutex.h"

namespace kiln::client {

// Calls a function at intervals on a thread of its own, until destroyed.
class Ticker {
 public:
  Ticker(absl::Duration interval, std::function<void()> tick);
  ~Ticker();

 private:
  void Run(absl::Duration interval);

  const std::function<void()> tick_;
  Mutex mu_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace kiln::client
