#include "store/base/mutex.h"

#include <gtest/gtest.h>

#include <thread>

namespace kiln {
namespace {

TEST(CondVarTest, AWaitWithoutEndLastsUntilASignal) {
  Mutex mu;
  CondVar changed;
  bool waiting = false, done = false;
  int timeouts = 0;
  std::thread waiter([&] {
    MutexLock lock(&mu);
    waiting = true;
    while (!done) {
      if (!changed.WaitFor(&mu, absl::InfiniteDuration())) ++timeouts;
    }
  });
  const auto waits = [&] {
    MutexLock lock(&mu);
    return waiting;
  };
  while (!waits()) std::this_thread::yield();
  {
    MutexLock lock(&mu);
    done = true;
    changed.SignalAll();
  }
  waiter.join();
  EXPECT_EQ(timeouts, 0);
}

}  // namespace
}  // namespace kiln
