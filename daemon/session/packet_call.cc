#include "daemon/session/packet_call.h"

#include <grpcpp/impl/rpc_method.h>

#include <utility>

#include "store/base/status_macros.h"
#include "store/fsutil/packet_codec.h"

namespace kiln::daemon {
namespace {

absl::Status StreamEnded() { return absl::UnavailableError("the call has ended"); }

}  // namespace

PacketCall::PacketCall(const std::shared_ptr<grpc::Channel>& channel, const char* method,
                       grpc::ClientContext* context)
    : context_(context) {
  // What generated stubs do; the generic stub has no blocking form in this version.
  const grpc::internal::RpcMethod rpc(method, grpc::internal::RpcMethod::BIDI_STREAMING, channel);
  stream_.reset(
      grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
          channel.get(), rpc, context));
}

absl::StatusOr<bool> PacketCall::Read(fsutil::Packet* packet) {
  grpc::ByteBuffer buffer;
  if (!stream_->Read(&buffer)) {
    ended_.store(true);
    return false;
  }
  grpc::Slice slice;
  if (!buffer.TrySingleSlice(&slice).ok() && !buffer.DumpToSingleSlice(&slice).ok())
    return absl::InternalError("read a message");
  KILN_RETURN_IF_ERROR(fsutil::ParsePacket(
      absl::string_view(reinterpret_cast<const char*>(slice.begin()), slice.size()), packet));
  return true;
}

absl::Status PacketCall::Write(const fsutil::Packet& packet) {
  if (held_.has_value() && !stream_->Write(*held_, grpc::WriteOptions().set_buffer_hint())) {
    ended_.store(true);
    return StreamEnded();
  }
  scratch_.clear();
  fsutil::AppendPacket(packet, &scratch_);
  grpc::Slice slice(scratch_);
  held_.emplace(&slice, 1);
  return absl::OkStatus();
}

absl::Status PacketCall::Flush() {
  if (!held_.has_value()) return absl::OkStatus();
  const bool written = stream_->Write(*held_);
  held_.reset();
  if (!written) ended_.store(true);
  return written ? absl::OkStatus() : StreamEnded();
}

absl::Status PacketCall::WriteLast(const fsutil::Packet& packet) {
  KILN_RETURN_IF_ERROR(Write(packet));
  half_closed_ = true;
  const bool written = stream_->Write(*held_, grpc::WriteOptions().set_last_message());
  held_.reset();
  if (!written) ended_.store(true);
  return written ? absl::OkStatus() : StreamEnded();
}

grpc::Status PacketCall::Finish() {
  if (held_.has_value()) (void)Flush();  // the status tells why it failed
  if (!half_closed_) stream_->WritesDone();
  grpc::ByteBuffer rest;
  while (stream_->Read(&rest)) rest.Clear();
  return stream_->Finish();
}

}  // namespace kiln::daemon
