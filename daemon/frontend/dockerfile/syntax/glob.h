#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// The patterns of ${name#pattern} and its kin: `*` is any run and `?` any character, neither of
// them a newline; \* \? \\ are themselves and \} \/ the bare character. No bracket expressions.
// Statuses are kInvalidArgument: `invalid pattern (p) in substitution: invalid escape '\x'`.
namespace kiln::daemon::dockerfile {

enum class GlobMatch { kShortest, kLongest };

// `value` without the prefix or suffix that matches.
absl::StatusOr<std::string> TrimGlobPrefix(absl::string_view value, absl::string_view pattern,
                                           GlobMatch match);
absl::StatusOr<std::string> TrimGlobSuffix(absl::string_view value, absl::string_view pattern,
                                           GlobMatch match);

// `value` with the first or every match, the longest at its place, replaced by `replacement` as it
// is. kResourceExhausted when the result would be larger than `max_bytes`.
absl::StatusOr<std::string> ReplaceGlob(absl::string_view value, absl::string_view pattern,
                                        absl::string_view replacement, bool all, size_t max_bytes);

}  // namespace kiln::daemon::dockerfile
