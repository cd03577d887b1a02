#pragma once

#include <string>

#include "absl/types/span.h"

namespace kiln::daemon {

// The content digest of an input from the checksums of its selectors, in their order.
//
// Every checksum keeps its place: were equal ones merged or sorted, two mounts of one input could
// swap their selectors without changing the key, since the op digest does not have them.
std::string CombineContentDigests(absl::Span<const std::string> checksums);

}  // namespace kiln::daemon
