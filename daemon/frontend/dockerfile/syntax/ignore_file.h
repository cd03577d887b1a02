#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon::dockerfile {

// The patterns of a .dockerignore file, cleaned and in order, for PatternMatcher and for
// `local.excludepatterns`. They are not compiled here: "!" alone passes and fails there.
// kInvalidArgument for a line of more than 65535 bytes.
absl::StatusOr<std::vector<std::string>> ParseIgnoreFile(absl::string_view data);

}  // namespace kiln::daemon::dockerfile
