#include "proto/op_bytes.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <utility>

#include "proto/buildkit/ops.pb.h"

namespace kiln {

std::string CanonicalBytes(const google::protobuf::MessageLite& message) {
  std::string out;
  out.reserve(message.ByteSizeLong());
  {
    google::protobuf::io::StringOutputStream stream(&out);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeWithCachedSizes(&coded);
  }
  return out;
}

std::string CanonicalOpBytes(pb::Op&& op) {
  pb::Op plain;
  plain.mutable_inputs()->Swap(op.mutable_inputs());
  if (op.has_platform()) plain.set_allocated_platform(op.release_platform());
  if (op.has_constraints()) plain.set_allocated_constraints(op.release_constraints());
  return CanonicalBytes(plain) + CanonicalBytes(op);  // the rest: the oneof, unknown fields
}

absl::StatusOr<std::string> CanonicalOpBytes(
    absl::string_view op_bytes, absl::FunctionRef<std::string(absl::string_view)> rename) {
  pb::Op op;
  if (!op.ParseFromArray(op_bytes.data(), static_cast<int>(op_bytes.size())))
    return absl::InvalidArgumentError("failed to parse llb proto op");
  for (pb::Input& input : *op.mutable_inputs()) {
    std::string renamed = rename(input.digest());
    if (!renamed.empty()) input.set_digest(std::move(renamed));
  }
  return CanonicalOpBytes(std::move(op));
}

}  // namespace kiln
