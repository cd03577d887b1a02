#pragma once

#include "absl/status/statusor.h"
#include "daemon/frontend/dockerfile/compilation.h"
#include "daemon/gateway/bridge.h"

namespace kiln::daemon::dockerfile {

// The answer to "frontend.convertllb": the graph of the target, op by op, as JSON.
absl::StatusOr<BridgeResult> DumpGraph(const Compilation& compilation);

}  // namespace kiln::daemon::dockerfile
