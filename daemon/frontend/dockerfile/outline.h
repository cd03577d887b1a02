#pragma once

#include "daemon/frontend/dockerfile/compilation.h"
#include "daemon/gateway/bridge.h"

namespace kiln::daemon::dockerfile {

// What the target of a compilation asks of its caller: arguments, secrets and agents, of all stages
// it needs (dockerfile.md 4.8, frontend.outline). As JSON and text in the result's metadata.
BridgeResult DescribeOutline(const Compilation& compilation, absl::string_view data);

}  // namespace kiln::daemon::dockerfile
