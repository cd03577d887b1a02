#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kiln::client {

struct BuildFlags;

// Looks at values that a daemon would refuse without naming the flag, late in the build, or not at
// all. kInvalidArgument names the flag, the value and what is right instead.
absl::Status CheckFlagValues(const BuildFlags& flags);

// Whether a file that is written after the build can be: `path` is none yet, or a file, in a folder
// that is there. "" is no file. Errors name the flag.
absl::Status CheckResultFile(absl::string_view flag, const std::string& path);

}  // namespace kiln::client
