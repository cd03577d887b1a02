#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

enum class FileHash { kSha256, kSha384, kSha512 };

// "ALGORITHM:HEX" of the file's bytes from its current offset to its end, then `suffix`. O(bytes),
// constant memory. Blocks.
absl::StatusOr<std::string> HashFile(int fd, FileHash algorithm, absl::string_view suffix,
                                     const CancelToken& cancel);

}  // namespace kiln::daemon
