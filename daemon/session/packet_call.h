#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/fsutil/packet.h"

namespace kiln::daemon {

// A bidirectional call whose messages are fsutil packets, whatever the method's declared types: on
// FileSend a directory export speaks Packets although the .proto says BytesMessage.
//
// One reader and one writer thread. They work on queues that gRPC's reactions fill and empty: some
// packets are read ahead, and a writer waits only while many are on their way. The last packet
// written is held back until the next one or Flush, so that gRPC can put many small ones into one
// frame of the connection.
class PacketCall : public fsutil::PacketStream {
 public:
  // `method` as "/pkg.Service/Method". `context` carries the headers and outlives the call.
  PacketCall(const std::shared_ptr<grpc::Channel>& channel, const char* method,
             grpc::ClientContext* context);
  // Only after Finish, or when what WhenEnded was given has been called.
  ~PacketCall() override;

  absl::StatusOr<bool> Read(fsutil::Packet* packet) override;
  absl::Status Write(const fsutil::Packet& packet) override;
  absl::Status Flush() override;
  // Half-closes with it.
  absl::Status WriteLast(const fsutil::Packet& packet) override;
  // No effect once the peer has ended the call: its status must stay readable.
  void Abort() override;

  // Half-closes if that was not done, reads what still comes, returns the peer's status. To be
  // called once, when no other call is under way.
  grpc::Status Finish();
  // Finish for who need not wait: `ended` is called when the peer has ended the call, on a thread
  // of gRPC's. It must not block, nor destroy this object there.
  void WhenEnded(std::function<void()> ended);

 private:
  class Reactor;
  grpc::ClientContext* const context_;
  const std::unique_ptr<Reactor> reactor_;
};

}  // namespace kiln::daemon
