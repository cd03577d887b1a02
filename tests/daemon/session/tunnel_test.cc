#include "daemon/session/tunnel.h"

#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/health_check_service_interface.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "absl/synchronization/notification.h"
#include "daemon/rpc/server.h"
#include "daemon/rpc/status.h"
#include "proto/buildkit/secrets.grpc.pb.h"
#include "tests/daemon/rpc/temp_dir.h"
#include "tests/daemon/session/session_client.h"

namespace kiln::daemon {
namespace {

using moby::buildkit::secrets::v1::GetSecretRequest;
using moby::buildkit::secrets::v1::GetSecretResponse;
using moby::buildkit::secrets::v1::Secrets;
using moby::buildkit::v1::BytesMessage;
using moby::buildkit::v1::Control;

class SessionOnly : public Control::CallbackService {
 public:
  explicit SessionOnly(SessionHost* host) : host_(host) {}

 private:
  grpc::ServerBidiReactor<BytesMessage, BytesMessage>* Session(
      grpc::CallbackServerContext* context) override {
    return host_->Open(context);
  }
  SessionHost* const host_;
};

// Answers "N bytes" with N bytes; "hang" never within the call's deadline.
class ClientSecrets : public Secrets::Service {
  grpc::Status GetSecret(grpc::ServerContext* context, const GetSecretRequest* request,
                         GetSecretResponse* response) override {
    if (request->id() == "hang") {
      entered.Notify();
      while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(5));
      return grpc::Status::CANCELLED;
    }
    response->set_data(std::string(std::stoul(request->id()), 's'));
    return grpc::Status::OK;
  }

 public:
  absl::Notification entered;
};

size_t OpenFds() { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); }

class TunnelTest : public testing::Test {
 protected:
  // Keeps the library up between tests: its shutdown may wait 10 s for a poller of its own.
  static void SetUpTestSuite() { grpc_init(); }

  TunnelTest() : service_(&host_) {
    grpc::EnableDefaultHealthCheckService(true);
    RpcServerOptions options;
    options.addresses = {*ParseListenAddress("unix://" + dir_.File("k.sock"))};
    server_ = *RpcServer::Start(options, {&service_});
    channel_ = grpc::CreateChannel(server_->names()[0], grpc::InsecureChannelCredentials());
  }

  absl::StatusOr<std::string> Secret(Session& session, const std::string& id) {
    grpc::ClientContext context;
    GetSecretRequest request;
    request.set_id(id);
    GetSecretResponse response;
    const grpc::Status status =
        Secrets::NewStub(session.channel())->GetSecret(&context, request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response.data();
  }
  absl::StatusOr<SessionPtr> Get(const std::string& id) {
    return host_.registry().Get(id, CancelToken());
  }

  TempDir dir_;
  SessionHost host_;
  SessionOnly service_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  ClientSecrets secrets_;
};

TEST_F(TunnelTest, CallsTheServicesOfTheClient) {
  SessionClient client(channel_, "abc", {&secrets_});
  const auto session = Get("prefix:abc");
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ((*session)->shared_key(), "dir:key");
  EXPECT_TRUE((*session)->Supports("/moby.buildkit.secrets.v1.Secrets/getsecret"));
  EXPECT_FALSE((*session)->Supports("/moby.filesync.v1.FileSync/diffcopy"));
  for (const char* size : {"1", "70000", "3000000"}) {
    const auto data = Secret(**session, size);
    ASSERT_TRUE(data.ok()) << data.status();
    EXPECT_EQ(data->size(), std::stoul(size));
  }
}

TEST_F(TunnelTest, HalfCloseEndsTheCallAndTheSession) {
  SessionClient client(channel_, "abc", {&secrets_});
  const SessionPtr session = *Get("abc");
  EXPECT_FALSE(session->closed().Cancelled());
  EXPECT_TRUE(client.Close().ok());
  EXPECT_TRUE(session->closed().Cancelled());
  EXPECT_EQ(host_.registry().size(), 0u);
  EXPECT_EQ(Secret(*session, "1").status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(TunnelTest, DeathOfTheClientFailsCallsUnderWay) {
  SessionClient client(channel_, "abc", {&secrets_});
  const SessionPtr session = *Get("abc");
  absl::Status got;
  std::thread call([&] { got = Secret(*session, "hang").status(); });
  secrets_.entered.WaitForNotification();
  client.Kill();
  call.join();
  EXPECT_FALSE(got.ok());
}

// gRPC 1.51 resets a call that is cancelled before its headers were written, though the client has
// not heard of it.
TEST_F(TunnelTest, CallsCancelledWhileTheyStartLeaveTheSessionWhole) {
  SessionClient client(channel_, "abc", {&secrets_});
  const SessionPtr session = *Get("abc");
  const auto stub = Secrets::NewStub(session->channel());
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    grpc::ClientContext context;
    GetSecretRequest request;
    request.set_id("1");
    GetSecretResponse response;
    std::atomic<int> spins = -1;
    std::thread cancel([&] {
      while (spins < 0) {
      }
      while (spins-- > 0) {
      }
      context.TryCancel();
    });
    spins = static_cast<int>(random() % 20000);
    const grpc::Status status = stub->GetSecret(&context, request, &response);
    cancel.join();
    ASSERT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::CANCELLED)
        << i << " " << status.error_message();
  }
  EXPECT_EQ(Secret(*session, "1").status(), absl::OkStatus());
  client.Close();
  EXPECT_FALSE(client.idle_stream_used());
}

TEST_F(TunnelTest, WhatWaitedForACallGoesWithoutOne) {
  grpc::ClientContext context;
  context.AddMetadata("x-docker-expose-session-uuid", "abc");
  // The first call is a health check after 5 s.
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(4));
  auto stream = Control::NewStub(channel_)->Session(&context);
  BytesMessage message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.data().substr(0, 14), "PRI * HTTP/2.0");
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(TunnelTest, NoDescriptorsAreLeft) {
  int next = 0;
  auto run = [&](bool kill) {
    // Ids of their own: the daemon may notice the end of a killed client a little later.
    const std::string id = std::to_string(next++);
    SessionClient client(channel_, id, {&secrets_});
    EXPECT_EQ(Secret(**Get(id), "1000").status(), absl::OkStatus());
    if (kill) {
      client.Kill();
    } else {
      client.Close();
    }
  };
  run(false);  // what gRPC opens once stays open
  const size_t before = OpenFds();
  for (int i = 0; i < 6; ++i) run(i % 2 == 0);
  // Channels are destroyed by a thread of their own.
  for (int i = 0; i < 6000 && OpenFds() > before; ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_LE(OpenFds(), before);
}

TEST_F(TunnelTest, SecondSessionWithTheSameIdReplacesTheFirst) {
  SessionClient first(channel_, "abc", {&secrets_});
  const SessionPtr old = *Get("abc");
  SessionClient second(channel_, "abc", {&secrets_});
  SessionPtr found = old;
  while (found == old) found = *Get("abc");
  first.Close();
  EXPECT_EQ(*Get("abc"), found);  // the end of the first does not take the second away
  EXPECT_TRUE(Secret(*found, "1").ok());
}

TEST_F(TunnelTest, ClientWithoutHealthIsDropped) {
  grpc::EnableDefaultHealthCheckService(false);
  SessionClient client(channel_, "abc", {&secrets_},
                       {{"x-buildkit-session-health-custom-timeout", "1"}});
  grpc::EnableDefaultHealthCheckService(true);
  const SessionPtr session = *Get("abc");
  const absl::Status slept = session->closed().SleepFor(absl::Minutes(1));
  EXPECT_FALSE(slept.ok());
}

TEST_F(TunnelTest, CallWithoutAnIdIsRefused) {
  grpc::ClientContext context;
  auto stream = Control::NewStub(channel_)->Session(&context);
  BytesMessage message;
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace kiln::daemon
