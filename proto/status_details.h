#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kiln {

// Typed error details: google.protobuf.Any entries whose value is JSON text (BuildKit grpcerrors).
// Inside Kiln they are payloads of absl::Status under their type URL; a second entry of the same
// type has "#2" appended to the URL, and so on. Bytes are never changed on the way through.
inline constexpr absl::string_view kVertexDetail = "github.com/moby/buildkit/errdefs.Vertex+json";
inline constexpr absl::string_view kSourceDetail = "github.com/moby/buildkit/errdefs.Source+json";
inline constexpr absl::string_view kFrontendDetail =
    "github.com/moby/buildkit/errdefs.Frontend+json";
inline constexpr absl::string_view kFrontendCapDetail =
    "github.com/moby/buildkit/errdefs.FrontendCap+json";
inline constexpr absl::string_view kSubrequestDetail =
    "github.com/moby/buildkit/errdefs.Subrequest+json";
inline constexpr absl::string_view kExitDetail =
    "github.com/moby/buildkit/gatewayapi.ExitMessage+json";
inline constexpr absl::string_view kPolicyDetail =
    "github.com/moby/buildkit/policysession.DecisionResponse+json";
inline constexpr absl::string_view kCompatibilityDetail =
    "github.com/moby/buildkit/errdefs.CompatibilityFeature+json";
inline constexpr absl::string_view kMaterialsDetail =
    "github.com/moby/buildkit/errdefs.ProvenanceMaterialsIncomplete+json";
inline constexpr absl::string_view kStackDetail = "github.com/moby/buildkit/stack.Stack+json";

struct StatusDetail {
  std::string type_url;
  std::string value;
};

// Adds one detail; an equal one that is there already is not doubled. No effect on an OK status.
void AddDetail(absl::string_view type_url, absl::string_view value, absl::Status* status);
// {"digest":"sha256:…"}
void AddVertexDetail(absl::string_view digest, absl::Status* status);
// {"Code":n}
void AddExitDetail(uint32_t code, absl::Status* status);
// `info` and `ranges` are serialized pb.SourceInfo and pb.Range. Unparseable ones are left out.
void AddSourceDetail(absl::string_view info, absl::Span<const std::string> ranges,
                     absl::Status* status);

// Stacks first, then by type, then as added. Payloads "kiln/" are our own: none leaves or comes in.
std::vector<StatusDetail> Details(const absl::Status& status);

// Serialized google.rpc.Status, as the trailer grpc-status-details-bin carries it.
std::string SerializeStatus(const absl::Status& status);
// The reverse. kInternal when the bytes are no Status. A code outside 0 to 16 becomes kUnknown.
absl::Status ParseStatus(absl::string_view bytes);
// From the parts of an RPC's answer: `details_bytes` may be empty or broken; then only code and
// message count.
absl::Status MakeStatus(int code, absl::string_view message, absl::string_view details_bytes);

}  // namespace kiln
