#pragma once

#include <google/protobuf/repeated_ptr_field.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "daemon/gateway/bridge_client.h"

namespace pb {
class Platform;
}
namespace moby::buildkit::v1 {
namespace frontend {
class ResolveSourceMetaRequest;
class ResolveSourceMetaResponse;
}  // namespace frontend
namespace sourcepolicy {
class Policy;
}
}  // namespace moby::buildkit::v1

namespace kiln::daemon {

// LLBBridge.ResolveSourceMeta (wire.md 4.2): what policies make of a source, and what that is now.
// Blocks.
absl::Status ResolveSourceMeta(
    BridgeClient& client, const moby::buildkit::v1::frontend::ResolveSourceMetaRequest& request,
    moby::buildkit::v1::frontend::ResolveSourceMetaResponse* response);

// "os/arch[/variant]"; "" when nothing is set.
std::string PlatformText(const pb::Platform& platform);

std::vector<std::string> SerializedPolicies(
    const google::protobuf::RepeatedPtrField<moby::buildkit::v1::sourcepolicy::Policy>& policies);

}  // namespace kiln::daemon
