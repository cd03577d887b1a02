#include "client/session/raw_stream.h"

#include <grpcpp/support/slice.h>

#include <utility>
#include <vector>

#include "proto/buildkit/filesync.pb.h"
#include "store/base/status_macros.h"
#include "store/fsutil/packet_codec.h"

namespace kiln::client {

RawService::RawService(const char* method) {
  using Handler =
      grpc::internal::BidiStreamingHandler<RawService, grpc::ByteBuffer, grpc::ByteBuffer>;
  AddMethod(new grpc::internal::RpcServiceMethod(  // owned by grpc::Service
      method, grpc::internal::RpcMethod::BIDI_STREAMING,
      new Handler([](RawService* self, grpc::ServerContext* context,
                     RawStream* stream) { return self->Handle(context, stream); },
                  this)));
}

grpc::ByteBuffer ToByteBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

absl::StatusOr<std::string> ToString(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return absl::InternalError("unreadable message");
  std::string bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

absl::StatusOr<std::string> DecodeBytesMessage(const grpc::ByteBuffer& buffer) {
  KILN_ASSIGN_OR_RETURN(const std::string bytes, ToString(buffer));
  moby::filesync::v1::BytesMessage message;
  if (!message.ParseFromString(bytes)) {
    return absl::InvalidArgumentError("a message of the export is malformed");
  }
  return std::move(*message.mutable_data());
}

absl::StatusOr<bool> RawPacketStream::Read(fsutil::Packet* packet) {
  grpc::ByteBuffer buffer;
  if (!stream_->Read(&buffer)) {
    if (context_->IsCancelled()) return absl::CancelledError("the daemon cancelled the transfer");
    return false;
  }
  grpc::Slice slice;
  if (buffer.TrySingleSlice(&slice).ok()) {  // the usual case, without a copy
    KILN_RETURN_IF_ERROR(fsutil::ParsePacket(
        absl::string_view(reinterpret_cast<const char*>(slice.begin()), slice.size()), packet));
    return true;
  }
  KILN_ASSIGN_OR_RETURN(const std::string bytes, ToString(buffer));
  KILN_RETURN_IF_ERROR(fsutil::ParsePacket(bytes, packet));
  return true;
}

absl::Status RawPacketStream::Write(const fsutil::Packet& packet) {
  std::string bytes;
  bytes.reserve(fsutil::EncodedSize(packet));
  fsutil::AppendPacket(packet, &bytes);
  if (held_ && !stream_->Write(*held_, grpc::WriteOptions().set_buffer_hint())) {
    return absl::CancelledError("the daemon ended the transfer");
  }
  held_ = ToByteBuffer(bytes);
  return absl::OkStatus();
}

absl::Status RawPacketStream::Flush() {
  if (!held_) return absl::OkStatus();
  const bool written = stream_->Write(*held_);
  held_.reset();
  return written ? absl::OkStatus() : absl::CancelledError("the daemon ended the transfer");
}

}  // namespace kiln::client
