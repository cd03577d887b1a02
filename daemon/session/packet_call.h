#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/sync_stream.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/fsutil/packet.h"

namespace kiln::daemon {

// A bidirectional call whose messages are fsutil packets, whatever the method's declared types: on
// FileSend a directory export speaks Packets although the .proto says BytesMessage.
//
// One reader and one writer thread. The last packet written is held back until the next one or
// Flush, so that gRPC can put many small ones into one frame of the connection.
class PacketCall : public fsutil::PacketStream {
 public:
  // `method` as "/pkg.Service/Method", a string that outlives the call. `context` carries the
  // headers and outlives the call too.
  PacketCall(const std::shared_ptr<grpc::Channel>& channel, const char* method,
             grpc::ClientContext* context);

  absl::StatusOr<bool> Read(fsutil::Packet* packet) override;
  absl::Status Write(const fsutil::Packet& packet) override;
  absl::Status Flush() override;
  // Half-closes with it.
  absl::Status WriteLast(const fsutil::Packet& packet) override;
  // No effect once the peer has ended the call: its status must stay readable.
  void Abort() override {
    if (!ended_.load()) context_->TryCancel();
  }

  // Half-closes if that was not done, reads what still comes, returns the peer's status. To be
  // called once, when no other call is under way.
  grpc::Status Finish();

 private:
  grpc::ClientContext* const context_;
  std::atomic<bool> ended_ = false;  // Read or Write has seen the end
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream_;
  bool half_closed_ = false;              // owned by the writer
  std::optional<grpc::ByteBuffer> held_;  // owned by the writer
  std::string scratch_;                   // owned by the writer
};

}  // namespace kiln::daemon
