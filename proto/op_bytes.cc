#include "proto/op_bytes.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/wire_format.h>

#include <algorithm>
#include <cstddef>

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

std::string CanonicalOpBytes(const pb::Op& op) {
  std::string bytes = CanonicalBytes(op);
  // By number come inputs, the oneof, platform and constraints, and what is unknown.
  const auto field_size = [](const google::protobuf::MessageLite& message) {
    const size_t size = message.ByteSizeLong();
    return 1 + google::protobuf::io::CodedOutputStream::VarintSize64(size) + size;
  };
  size_t inputs = 0, plain = 0;
  for (const pb::Input& input : op.inputs()) inputs += field_size(input);
  if (op.has_platform()) plain += field_size(op.platform());
  if (op.has_constraints()) plain += field_size(op.constraints());
  const size_t unknown = google::protobuf::internal::WireFormat::ComputeUnknownFieldsSize(
      op.GetReflection()->GetUnknownFields(op));
  const auto end = bytes.end() - static_cast<std::ptrdiff_t>(unknown);
  std::rotate(bytes.begin() + static_cast<std::ptrdiff_t>(inputs),
              end - static_cast<std::ptrdiff_t>(plain), end);
  return bytes;
}

}  // namespace kiln
