#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::client::llb {

// Splits a command line into words by shell quoting rules: blanks separate, '…' is literal, "…" and
// bare text know backslash, '#' at the start of a word begins a comment. No expansion.
// kInvalidArgument for an open quote or a backslash at the end.
absl::StatusOr<std::vector<std::string>> SplitShellWords(absl::string_view line);

}  // namespace kiln::client::llb
