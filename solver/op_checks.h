#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace pb {
class Op;
class OpMetadata;
}  // namespace pb

namespace kiln::solver {

// Refuses what cannot be executed whatever the rest of the graph is (as BuildKit's loader does, and
// also the indices that BuildKit finds only when the op is evaluated). The terminal op is not
// checked.
absl::Status CheckOp(const pb::Op& op);

// Capabilities that the op asks for, and entitlements that it needs.
absl::Status CheckPermissions(const pb::Op& op, const pb::OpMetadata* metadata,
                              absl::Span<const std::string> granted);

}  // namespace kiln::solver
