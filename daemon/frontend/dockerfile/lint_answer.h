#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/llb/constraints.h"
#include "daemon/frontend/dockerfile/lint.h"
#include "daemon/gateway/bridge.h"

namespace kiln::daemon::dockerfile {

// The answer of frontend.lint (dockerfile.md 4.8, 7.4): findings, and why the file cannot be built
// if it cannot, as JSON and text with excerpts in the result's metadata.
BridgeResult DescribeFindings(std::vector<LintFinding> findings, const absl::Status& build_error,
                              const client::llb::SourceText& text);

}  // namespace kiln::daemon::dockerfile
