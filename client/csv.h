#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::client {

// Splits one CSV record. kInvalidArgument for an open quote.
absl::StatusOr<std::vector<std::string>> SplitCsv(absl::string_view text);
// The fields of a CSV record as key=value, in order. kInvalidArgument for a field without '='
// unless `bare_allowed`; then it has an empty value.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> SplitCsvFields(
    absl::string_view text, bool bare_allowed = false);

}  // namespace kiln::client
