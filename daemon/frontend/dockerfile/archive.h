#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace kiln::daemon::dockerfile {

// Whether a download is taken as a build context: what begins like bzip2, gzip, xz or a tar.
bool IsArchive(absl::string_view head);

// The newest modification of a regular file in an archive, in Unix seconds; nullopt when `data` is
// none, or has none.
std::optional<int64_t> NewestFileTime(const std::string& data);

}  // namespace kiln::daemon::dockerfile
