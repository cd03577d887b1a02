#include "daemon/rpc/awake_pollers.h"

#include <memory>

#include "absl/synchronization/notification.h"
#include "daemon/rpc/server.h"
#include "gtest/gtest.h"

namespace kiln::daemon {
namespace {

// It ends with a call under way, with a timer set, and over and over.
TEST(AwakePollers, EndsAtAnyMoment) {
  RpcServerOptions options;
  options.addresses = {*ParseListenAddress("tcp://127.0.0.1:0")};
  const auto server = RpcServer::Start(options, {});
  ASSERT_TRUE(server.ok()) << server.status();
  FdLoop timers("timers");
  for (int i = 0; i < 100; ++i) AwakePollers pollers(&timers);
  auto pollers = std::make_unique<AwakePollers>(&timers);
  absl::Notification later;
  timers.PostAfter(absl::Milliseconds(700), [&] { later.Notify(); });
  later.WaitForNotification();  // a few calls
  pollers.reset();
}

}  // namespace
}  // namespace kiln::daemon
