#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"

namespace kiln::solver {

// The most permissive of all: jobs that share a vertex share its limits (serialized
// pb.LinuxResources each; an empty string means "no limits given" and does not take part).
// Unparseable ones are left out.
std::string MergeLinuxResources(absl::Span<const std::string> each);

}  // namespace kiln::solver
