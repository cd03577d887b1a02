#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon::dockerfile {

// The fields of one CSV record, as Go's encoding/csv reads them: a field may be in double quotes,
// "" inside stands for one. A newline at the end is dropped. kInvalidArgument for an empty record
// ("EOF") and for misplaced quotes, in Go's words.
absl::StatusOr<std::vector<std::string>> SplitCsv(absl::string_view record);

}  // namespace kiln::daemon::dockerfile
