#pragma once

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace google::protobuf {
class MessageLite;
}

namespace pb {
class Op;
}

namespace kiln {

// Deterministic protobuf: fields ascending, map keys sorted, unknown fields last. For messages
// without a oneof this is also what Go's marshaller gives.
std::string CanonicalBytes(const google::protobuf::MessageLite& message);

// The canonical form of an op: what Go's deterministic marshaller gives, which writes the members
// of a oneof after all plain fields. Its sha256 is the digest of the vertex (BuildKit, vertex
// ingest). Takes the op apart.
std::string CanonicalOpBytes(pb::Op&& op);

// The same for a serialized op. `rename` maps each input's digest text to the one to write; return
// "" to keep it.
// kInvalidArgument "failed to parse llb proto op" when the bytes are not an Op.
absl::StatusOr<std::string> CanonicalOpBytes(
    absl::string_view op_bytes, absl::FunctionRef<std::string(absl::string_view)> rename);

}  // namespace kiln
