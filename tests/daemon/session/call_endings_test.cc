#include "daemon/session/call_endings.h"

#include <functional>
#include <memory>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace kiln::daemon {
namespace {

struct Told {
  absl::Notification cancelled, gone;
  std::function<void()> ended;  // what the peer's end calls
};

class TestCall : public CallEndings::Call {
 public:
  explicit TestCall(std::shared_ptr<Told> told) : told_(std::move(told)) {}
  ~TestCall() override { told_->gone.Notify(); }
  void WhenEnded(std::function<void()> ended) override { told_->ended = std::move(ended); }
  void Cancel() override {
    told_->cancelled.Notify();
    told_->ended();
  }

 private:
  const std::shared_ptr<Told> told_;
};

TEST(CallEndings, CallsGoWhenTheirPeersEndThem) {
  CallEndings endings;
  std::vector<std::shared_ptr<Told>> calls;
  for (int i = 0; i < 3; ++i) {
    calls.push_back(std::make_shared<Told>());
    endings.Await(std::make_unique<TestCall>(calls.back()));
  }
  for (const int i : {2, 0, 1}) {
    calls[static_cast<size_t>(i)]->ended();
    calls[static_cast<size_t>(i)]->gone.WaitForNotification();
  }
  for (const auto& call : calls) EXPECT_FALSE(call->cancelled.HasBeenNotified());
}

TEST(CallEndings, TheLongestGoesForOneTooMany) {
  std::vector<std::shared_ptr<Told>> calls;
  {
    CallEndings endings;
    for (size_t i = 0; i < CallEndings::kMaxCalls + 2; ++i) {
      calls.push_back(std::make_shared<Told>());
      endings.Await(std::make_unique<TestCall>(calls.back()));
    }
    calls[0]->gone.WaitForNotification();
    calls[1]->gone.WaitForNotification();
    EXPECT_TRUE(calls[1]->cancelled.HasBeenNotified());
    EXPECT_FALSE(calls[2]->cancelled.HasBeenNotified());
  }
  // And all when nobody is left to wait for them.
  for (const auto& call : calls) {
    EXPECT_TRUE(call->cancelled.HasBeenNotified());
    EXPECT_TRUE(call->gone.HasBeenNotified());
  }
}

}  // namespace
}  // namespace kiln::daemon
