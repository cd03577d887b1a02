#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/fd.h"

namespace kiln::daemon {

// A file of the kernel's memory with these bytes, at its start.
absl::StatusOr<Fd> MemoryFile(absl::string_view bytes);

}  // namespace kiln::daemon
