#include "daemon/image/go_time.h"

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kiln::daemon {

absl::StatusOr<GoTime> GoTime::Parse(absl::string_view text) {
  GoTime out;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &out.time, &error))
    return absl::InvalidArgumentError(absl::StrCat("invalid time \"", text, "\": ", error));
  if (absl::EndsWith(text, "Z") || absl::EndsWith(text, "z") || text.size() < 6) return out;
  // The offset, "+02:00", has passed the parser.
  const std::string tail(text.substr(text.size() - 6));
  const int minutes = std::atoi(tail.substr(1, 2).c_str()) * 60 + std::atoi(tail.substr(4).c_str());
  out.offset_seconds = (tail[0] == '-' ? -60 : 60) * minutes;
  return out;
}

std::string GoTime::ToString() const {
  const std::string text =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E*S%Ez", time, absl::FixedTimeZone(offset_seconds));
  return offset_seconds == 0 ? absl::StrCat(text.substr(0, text.size() - 6), "Z") : text;
}

}  // namespace kiln::daemon
