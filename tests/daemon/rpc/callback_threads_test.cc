#include "daemon/rpc/callback_threads.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <memory>

#include "absl/synchronization/notification.h"
#include "daemon/rpc/server.h"
#include "gtest/gtest.h"

namespace kiln::daemon {
namespace {

class CallbackThreadsTest : public testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override {
    RpcServerOptions options;
    options.addresses = {*ParseListenAddress("tcp://127.0.0.1:0")};
    auto server = RpcServer::Start(options, {});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  std::unique_ptr<RpcServer> server_;
  FdLoop timers_{"timers"};
};

// It ends with a call under way, with a timer set, and over and over.
TEST_P(CallbackThreadsTest, EndsAtAnyMoment) {
  for (int i = 0; i < 100; ++i) CallbackThreads threads(&timers_, GetParam());
  auto threads = std::make_unique<CallbackThreads>(&timers_, GetParam());
  absl::Notification later;
  timers_.PostAfter(absl::Milliseconds(700), [&] { later.Notify(); });
  later.WaitForNotification();  // a few calls
  threads.reset();
}

// However many there are, calls of others are served meanwhile.
TEST_P(CallbackThreadsTest, LeavesAThreadThatServes) {
  const CallbackThreads one(&timers_, GetParam()), two(&timers_, GetParam()),
      three(&timers_, GetParam());
  grpc::GenericStub stub(grpc::CreateChannel("", nullptr));
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    const grpc::Slice nothing;
    const grpc::ByteBuffer request(&nothing, 1);
    grpc::ByteBuffer response;
    absl::Notification done;
    stub.UnaryCall(&context, "/kiln.Nowhere/Call", {}, &request, &response,
                   [&](const grpc::Status&) { done.Notify(); });
    done.WaitForNotification();
  }
}

INSTANTIATE_TEST_SUITE_P(Processors, CallbackThreadsTest, testing::Values(1, 2, 8));

}  // namespace
}  // namespace kiln::daemon
