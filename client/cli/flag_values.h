#pragma once

#include "absl/status/status.h"

namespace kiln::client {

struct BuildFlags;

// Looks at values that a daemon would refuse without naming the flag, late in the build, or not at
// all. kInvalidArgument names the flag, the value and what is right instead.
absl::Status CheckFlagValues(const BuildFlags& flags);

}  // namespace kiln::client
