#include "store/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>

namespace kiln {
namespace {

TEST(ThreadPoolTest, RunsEverythingBeforeItIsGone) {
  std::atomic<int> ran = 0;
  {
    ThreadPool pool("test", 4);
    for (int i = 0; i < 1000; ++i) pool.Post([&ran] { ++ran; });
  }
  EXPECT_EQ(ran, 1000);
}

TEST(ThreadPoolTest, UsesAllItsThreads) {
  // Each task waits for the other: with fewer than two threads this would hang.
  std::atomic<int> inside = 0;
  ThreadPool pool("test", 2);
  for (int i = 0; i < 2; ++i) {
    pool.Post([&inside] {
      ++inside;
      while (inside < 2) std::this_thread::yield();
    });
  }
}

TEST(ThreadPoolTest, WorkMayPostWork) {
  std::atomic<int> ran = 0;
  {
    ThreadPool pool("test", 1);
    pool.Post([&] {
      ++ran;
      pool.Post([&] { ++ran; });
    });
    while (ran < 2) std::this_thread::yield();
  }
  EXPECT_EQ(ran, 2);
}

}  // namespace
}  // namespace kiln
