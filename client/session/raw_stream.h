#pragma once

#include <grpcpp/impl/codegen/method_handler.h>
#include <grpcpp/impl/codegen/rpc_service_method.h>
#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/sync_stream.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/fsutil/packet.h"

namespace kiln::client {

using RawStream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

// A service with one bidirectional method whose messages stay bytes: FileSend.DiffCopy carries
// packets or plain chunks according to the exporter (wire.md 3.3), and packets have their own
// codec.
class RawService : public grpc::Service {
 public:
  explicit RawService(const char* method);
  virtual grpc::Status Handle(grpc::ServerContext* context, RawStream* stream) = 0;
};

grpc::ByteBuffer ToByteBuffer(const std::string& bytes);
absl::StatusOr<std::string> ToString(const grpc::ByteBuffer& buffer);

// The data field of a BytesMessage.
absl::StatusOr<std::string> DecodeBytesMessage(const grpc::ByteBuffer& buffer);

// fsutil packets over such a method. Written packets are held back by one, so that gRPC may put
// many into one system call: Flush sends the last. One reader and one writer thread.
class RawPacketStream : public fsutil::PacketStream {
 public:
  // Sends the initial metadata: a first message with a buffer hint would hold it back, and block.
  RawPacketStream(grpc::ServerContext* context, RawStream* stream)
      : context_(context), stream_(stream) {
    stream_->SendInitialMetadata();
  }

  absl::StatusOr<bool> Read(fsutil::Packet* packet) override;
  absl::Status Write(const fsutil::Packet& packet) override;
  absl::Status Flush() override;
  void Abort() override { context_->TryCancel(); }

 private:
  grpc::ServerContext* const context_;
  RawStream* const stream_;
  std::optional<grpc::ByteBuffer> held_;  // the writer's
};

}  // namespace kiln::client
