#pragma once

#include <string>

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
// ingest).
std::string CanonicalOpBytes(const pb::Op& op);

}  // namespace kiln
