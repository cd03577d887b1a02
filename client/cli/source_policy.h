#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace kiln::client {

// Reads a file of source policy rules (JSON, as buildctl's --source-policy-file takes it) into a
// serialized sourcepolicy.Policy. kInvalidArgument names the file and what is wrong in it: a rule
// that is misspelt must not go unnoticed.
absl::StatusOr<std::string> ReadSourcePolicy(const std::string& file);

}  // namespace kiln::client
