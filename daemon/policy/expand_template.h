#pragma once

#include <re2/re2.h>

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace kiln::daemon {

// `replacement` with the groups of the first match of `pattern` in `text` put in for $1, ${1},
// $name and ${name}, as Go's regexp does ($$ is a dollar, an unknown group is empty); nullopt when
// nothing matches.
std::optional<std::string> ExpandMatch(const RE2& pattern, absl::string_view text,
                                       absl::string_view replacement);

// `text` with every match replaced like that.
std::string ReplaceAllMatches(const RE2& pattern, absl::string_view text,
                              absl::string_view replacement);

}  // namespace kiln::daemon
