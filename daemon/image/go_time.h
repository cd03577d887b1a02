#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace kiln::daemon {

// A time as Go's encoding/json reads and writes it: RFC 3339 with nanoseconds, and the offset it
// was written with. A plain value.
struct GoTime {
  absl::Time time;
  int offset_seconds = 0;

  static GoTime Utc(absl::Time time) { return {time, 0}; }
  // kInvalidArgument names the text.
  static absl::StatusOr<GoTime> Parse(absl::string_view text);
  std::string ToString() const;  // "2023-11-14T22:13:20.5Z"

  friend bool operator==(const GoTime& a, const GoTime& b) {
    return a.time == b.time && a.offset_seconds == b.offset_seconds;
  }
};

}  // namespace kiln::daemon
