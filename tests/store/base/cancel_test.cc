#include "store/base/cancel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>

#include "tests/store/base/wall_clock.h"

namespace kiln {
namespace {

TEST(CancelTest, DefaultTokenNeverFires) {
  CancelToken token;
  EXPECT_FALSE(token.Cancelled());
  EXPECT_TRUE(token.status().ok());
  auto registration = token.OnCancel([] { FAIL(); });
}

TEST(CancelTest, FirstCauseWins) {
  CancelSource source;
  CancelToken token = source.token();
  source.Cancel(absl::DeadlineExceededError("late"));
  source.Cancel(absl::CancelledError("again"));
  EXPECT_TRUE(token.Cancelled());
  EXPECT_EQ(token.status(), absl::DeadlineExceededError("late"));
}

TEST(CancelTest, CallbackRunsOnceAndAtOnceWhenLate) {
  CancelSource source;
  int calls = 0;
  auto early = source.token().OnCancel([&] { ++calls; });
  source.Cancel();
  EXPECT_EQ(calls, 1);
  auto late = source.token().OnCancel([&] { ++calls; });
  EXPECT_EQ(calls, 2);
}

TEST(CancelTest, DroppedRegistrationDoesNotRun) {
  CancelSource source;
  int calls = 0;
  {
    auto dropped = source.token().OnCancel([&] { ++calls; });
  }
  source.Cancel();
  EXPECT_EQ(calls, 0);
}

TEST(CancelTest, CallbackMayDropItsOwnRegistration) {
  CancelSource source;
  auto registration = std::make_unique<CancelRegistration>();
  *registration = source.token().OnCancel([&] { registration.reset(); });
  source.Cancel();
  EXPECT_EQ(registration, nullptr);
}

TEST(CancelTest, SleepEndsWithTheCause) {
  CancelSource source;
  std::thread canceller([&] { source.Cancel(absl::CancelledError("enough")); });
  EXPECT_EQ(source.token().SleepFor(absl::Hours(1)), absl::CancelledError("enough"));
  canceller.join();
}

TEST(CancelTest, SleepEndsInTimeThoughTheClockIsSetBack) {
  CancelSource source;
  std::promise<void> begun;
  auto slept = std::async(std::launch::async, [&] {
    begun.set_value();
    return source.token().SleepFor(absl::Milliseconds(300));
  });
  begun.get_future().wait();
  SetWallClockBy(-absl::Hours(1));
  EXPECT_EQ(slept.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  source.Cancel();
  EXPECT_TRUE(slept.get().ok());
  SetWallClockBy(absl::Hours(1));
}

TEST(CancelTest, UnregisterRacesCancel) {
  for (int i = 0; i < 500; ++i) {
    CancelSource source;
    auto alive = std::make_unique<std::atomic<int>>(0);
    auto registration = source.token().OnCancel([&alive] { ++*alive; });
    std::thread canceller([&] { source.Cancel(); });
    registration = CancelRegistration();  // after this the callback must not touch `alive`
    alive.reset();
    canceller.join();
  }
}

}  // namespace
}  // namespace kiln
