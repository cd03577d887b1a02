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

TEST(ThreadPoolTest, ABurstLeavesFewThreads) {
  constexpr int kMany = 24;
  std::atomic<int> rounds[3] = {};
  ThreadPool pool("test", kMany, absl::Milliseconds(1));
  for (std::atomic<int>& inside : rounds) {
    for (int i = 0; i < kMany; ++i) {
      pool.Post([&inside] {
        ++inside;
        while (inside < kMany) std::this_thread::yield();
      });
    }
    while (inside < kMany) std::this_thread::yield();
    while (pool.threads() > ThreadPool::kKeptThreads) std::this_thread::yield();
  }
}

// Threads that end because nothing came take what comes just then.
TEST(ThreadPoolTest, NothingIsLostWhileThreadsEnd) {
  std::atomic<int> ran = 0;
  int posted = 0;
  {
    ThreadPool pool("test", 8, absl::Microseconds(20));
    for (int round = 0; round < 500; ++round) {
      for (int i = 0; i < 8; ++i, ++posted) pool.Post([&ran] { ++ran; });
      while (round % 2 == 0 && ran < posted) std::this_thread::yield();
    }
  }
  EXPECT_EQ(ran, posted);
}

}  // namespace
}  // namespace kiln
