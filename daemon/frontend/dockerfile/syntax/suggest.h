#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kiln::daemon::dockerfile {

// The option nearest to `word`, at most two edits away; the first of equals. "" when there is none
// or when `word` is one of them.
std::string Nearest(absl::string_view word, absl::Span<const std::string> options);

// The same without regard to case; the answer is in upper or lower case if `word` is.
std::string NearestIgnoringCase(absl::string_view word, absl::Span<const std::string> options);

// " (did you mean X?)", or nothing for "".
std::string DidYouMean(absl::string_view nearest);

}  // namespace kiln::daemon::dockerfile
