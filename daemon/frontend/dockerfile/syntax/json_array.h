#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon::dockerfile {

// `text` as a JSON array of strings, the exec form of commands. nullopt when it is no JSON array at
// all: then it is a command for the shell, or a list. kInvalidArgument for an array that holds
// anything else. Read as Go does: broken UTF-8 and lone surrogates become U+FFFD.
absl::StatusOr<std::optional<std::vector<std::string>>> ParseJsonStrings(absl::string_view text);

}  // namespace kiln::daemon::dockerfile
