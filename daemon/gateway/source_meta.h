#pragma once

#include <vector>

#include "daemon/gateway/bridge_service.h"
#include "daemon/source/source.h"

namespace kiln::daemon {

// Resolves sources for LLBBridge.ResolveSourceMeta: what `sources` handle, and nothing else.
// `sources` outlive the function.
SourceResolver MakeSourceResolver(std::vector<Source*> sources);

}  // namespace kiln::daemon
