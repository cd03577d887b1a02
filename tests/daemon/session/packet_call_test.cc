#include "daemon/session/packet_call.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "proto/buildkit/filesync.grpc.pb.h"

namespace kiln::daemon {
namespace {

using Message = ::fsutil::types::Packet;
using PeerStream = grpc::ServerReaderWriter<Message, Message>;

class PacketCallTest : public testing::Test, private moby::filesync::v1::FileSync::Service {
 protected:
  PacketCallTest() {
    grpc::ServerBuilder builder;
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~PacketCallTest() override { server_->Shutdown(); }

  std::unique_ptr<PacketCall> Call() {
    return std::make_unique<PacketCall>(server_->InProcessChannel({}),
                                        "/moby.filesync.v1.FileSync/DiffCopy", &context_);
  }
  static fsutil::Packet Data(uint32_t id, size_t size) {
    fsutil::Packet packet;
    packet.type = fsutil::Packet::Type::kData;
    packet.id = id;
    packet.data.assign(size, static_cast<char>('a' + id % 26));
    return packet;
  }

  std::function<grpc::Status(PeerStream&)> peer_;
  grpc::ClientContext context_;

 private:
  grpc::Status DiffCopy(grpc::ServerContext*, PeerStream* stream) override {
    return peer_(*stream);
  }
  std::unique_ptr<grpc::Server> server_;
};

// More both ways than the queues hold, by number and by size, and one end slower than the other.
TEST_F(PacketCallTest, EverythingArrivesInItsOrder) {
  constexpr uint32_t kMany = 3000;
  const auto size = [](uint32_t id) { return id % 500 == 0 ? size_t{400'000} : id % 7; };
  peer_ = [&](PeerStream& stream) {
    Message packet;
    while (stream.Read(&packet)) stream.Write(packet);
    return grpc::Status::OK;
  };
  const auto call = Call();
  std::thread writer([&] {
    for (uint32_t i = 0; i + 1 < kMany; ++i) ASSERT_TRUE(call->Write(Data(i, size(i))).ok());
    EXPECT_TRUE(call->WriteLast(Data(kMany - 1, size(kMany - 1))).ok());
  });
  fsutil::Packet packet;
  for (uint32_t i = 0; i < kMany; ++i) {
    ASSERT_TRUE(*call->Read(&packet)) << i;
    ASSERT_EQ(packet.id, i);
    ASSERT_EQ(packet.data, Data(i, size(i)).data);
  }
  EXPECT_FALSE(*call->Read(&packet));
  writer.join();
  EXPECT_TRUE(call->Finish().ok());
}

TEST_F(PacketCallTest, FlushSendsWhatWasHeldBack) {
  peer_ = [&](PeerStream& stream) {
    Message packet;
    while (stream.Read(&packet)) stream.Write(packet);
    return grpc::Status::OK;
  };
  const auto call = Call();
  fsutil::Packet packet;
  for (uint32_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(call->Write(Data(i, 1)).ok());
    ASSERT_TRUE(call->Flush().ok());
    ASSERT_TRUE(*call->Read(&packet));
    EXPECT_EQ(packet.id, i);
  }
  EXPECT_TRUE(call->Finish().ok());
}

TEST_F(PacketCallTest, ThePeersStatusStaysReadable) {
  peer_ = [&](PeerStream& stream) {
    Message packet;
    packet.set_type(Message::PACKET_DATA);
    packet.set_id(7);
    stream.Write(packet);
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such directory");
  };
  const auto call = Call();
  fsutil::Packet packet;
  ASSERT_TRUE(*call->Read(&packet));
  EXPECT_EQ(packet.id, 7u);
  EXPECT_FALSE(*call->Read(&packet));
  call->Abort();
  while (call->Write(Data(0, 1)).ok()) {
  }
  const grpc::Status status = call->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no such directory");
}

TEST_F(PacketCallTest, AbortEndsWhatIsBlocked) {
  absl::Notification reading;
  peer_ = [&](PeerStream& stream) {
    reading.Notify();
    Message packet;
    while (stream.Read(&packet)) {
    }
    return grpc::Status::OK;
  };
  const auto call = Call();
  std::thread aborter([&] {
    reading.WaitForNotification();
    call->Abort();
  });
  fsutil::Packet packet;
  EXPECT_FALSE(*call->Read(&packet));
  aborter.join();
  EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// What the peer still sends, more than is read ahead, does not keep the call from ending.
TEST_F(PacketCallTest, WhenEndedNeedsNobodyToWait) {
  absl::Notification go_on, ended;
  peer_ = [&](PeerStream& stream) {
    Message packet;
    while (stream.Read(&packet)) {
    }
    go_on.WaitForNotification();
    packet.set_data(std::string(10'000, 'x'));
    for (int i = 0; i < 1000; ++i) stream.Write(packet);
    return grpc::Status::OK;
  };
  const auto call = Call();
  ASSERT_TRUE(call->WriteLast(Data(0, 1)).ok());
  call->WhenEnded([&] { ended.Notify(); });
  EXPECT_FALSE(ended.HasBeenNotified());
  go_on.Notify();
  ended.WaitForNotification();
}

}  // namespace
}  // namespace kiln::daemon
