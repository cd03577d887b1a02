#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/fd.h"

namespace kiln::store {

// What is done below an open directory without ever leaving it. May block.

// Opens `path`, which begins with "/", below the directory `root`; no symlink is crossed. `*error`
// is the errno, 0 on success.
absl::StatusOr<Fd> OpenBeneath(int root, absl::string_view path, int flags, int* error);

// rm -rf of `name` in `dir`, one directory open at a time, no symlink followed.
absl::Status RemoveBeneath(int dir, const std::string& name);

}  // namespace kiln::store
