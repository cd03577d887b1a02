#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "store/fsutil/file_source.h"

namespace kiln::daemon {

// Writes the entries of `source` as a tar archive: ustar headers, pax records only where a value
// does not fit (long or non-ASCII names, large numbers) and for extended attributes. Times are
// rounded to seconds, as Go's archive/tar does. The bytes depend on the entries alone.
//
// kDataLoss when a file has not the bytes its size promises.
absl::Status WriteTar(fsutil::FileSource& source,
                      const std::function<absl::Status(absl::string_view)>& sink);

}  // namespace kiln::daemon
