#pragma once

#include <vector>

#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Capability ids for LLBBridge.Ping, sorted (wire.md 1.5). What is not built is not listed: clients
// change their behaviour on it.
std::vector<absl::string_view> FrontendCapabilities();
std::vector<absl::string_view> LlbCapabilitiesOffered();

}  // namespace kiln::daemon
