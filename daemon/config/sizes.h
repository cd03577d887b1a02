#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace kiln::daemon {

// An amount of disk: bytes, or a share of the whole disk.
struct DiskSpace {
  int64_t bytes = 0;
  int percent = 0;  // not 0: counts instead of bytes

  bool empty() const { return bytes == 0 && percent == 0; }
  // `disk_bytes` 0: unknown, then a share is 2 GB.
  int64_t Bytes(int64_t disk_bytes) const;
};

// "512MB", "20GB", "1.5GiB", "1000", "10%". kInvalidArgument shows the text.
absl::StatusOr<DiskSpace> ParseDiskSpace(absl::string_view text);

// Go's duration ("48h", "1h30m") or a number of seconds. kInvalidArgument shows the text.
absl::StatusOr<absl::Duration> ParseConfigDuration(absl::string_view text);

}  // namespace kiln::daemon
