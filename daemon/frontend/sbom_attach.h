#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "daemon/frontend/frontend_client.h"

namespace kiln::daemon {

// Attaches a bill of materials to each file system of `result`, when `opts` ask for one
// ("attest:sbom") and the frontend has attached none. `platforms` are the ids that exporters will
// know the result by; empty: it has none. kInvalidArgument for options that make no sense. Blocks
// until the scanner's image is known; the scans run when their refs are evaluated.
absl::Status AttachSbom(FrontendClient& client, const std::map<std::string, std::string>& opts,
                        const std::vector<std::string>& platforms, BridgeResult* result);

}  // namespace kiln::daemon
