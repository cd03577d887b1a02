#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kiln::solver {

// The LLB capability ids that this daemon implements, sorted: what OpMetadata.caps may ask for and
// what the gateway announces.
absl::Span<const absl::string_view> LlbCapabilities();
bool HasLlbCapability(absl::string_view id);

}  // namespace kiln::solver
