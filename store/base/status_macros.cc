#include "store/base/status_macros.h"

#include <cerrno>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace kiln {

absl::Status Annotate(const absl::Status& status, absl::string_view doing) {
  if (status.ok()) return status;
  absl::Status out(status.code(), absl::StrCat(doing, ": ", status.message()));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& value) { out.SetPayload(url, value); });
  return out;
}

absl::Status ErrnoStatus(int error_number, absl::string_view doing) {
  absl::Status status = absl::ErrnoToStatus(error_number, doing);
  // Abseil files these two under UNAVAILABLE and INTERNAL; the remedy is room on the disk.
  if (error_number == ENOSPC || error_number == EDQUOT)
    return absl::ResourceExhaustedError(status.message());
  return status;
}

}  // namespace kiln
