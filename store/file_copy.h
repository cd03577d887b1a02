#pragma once

#include <sys/stat.h>

#include <map>
#include <string>

#include "absl/status/status.h"

namespace kiln::store {

// Copies the content of `from` to the empty file `to`: a reflink where the file system can, else
// copy_file_range, else read and write. Holes stay holes. Neither offset matters.
absl::Status CopyContent(int from, int to);

// Sets the attributes one by one; what the file system refuses to store (ENOTSUP, EPERM) is left
// out, as `cp -a` does. `host_path` is not followed when it is a symlink.
absl::Status SetXattrs(const std::string& host_path,
                       const std::map<std::string, std::string>& xattrs);

}  // namespace kiln::store
