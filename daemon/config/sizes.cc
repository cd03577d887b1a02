#include "daemon/config/sizes.h"

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace kiln::daemon {

int64_t DiskSpace::Bytes(int64_t disk_bytes) const {
  if (percent == 0) return bytes;
  if (disk_bytes <= 0) return 2'000'000'000;
  // Rounded up to whole gigabytes, as buildkitd does.
  return (disk_bytes / 100 * percent / (int64_t{1} << 30) + 1) * 1'000'000'000;
}

absl::StatusOr<DiskSpace> ParseDiskSpace(absl::string_view text) {
  const auto bad = [text] {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not an amount of disk space"));
  };
  std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  absl::string_view rest = lower;
  DiskSpace space;
  if (absl::ConsumeSuffix(&rest, "%")) {
    if (!absl::SimpleAtoi(rest, &space.percent) || space.percent < 1 || space.percent > 100)
      return bad();
    return space;
  }
  constexpr std::pair<absl::string_view, double> kUnits[] = {{"tib", 1099511627776.0},
                                                             {"gib", 1073741824.0},
                                                             {"mib", 1048576.0},
                                                             {"kib", 1024.0},
                                                             {"tb", 1e12},
                                                             {"gb", 1e9},
                                                             {"mb", 1e6},
                                                             {"kb", 1e3},
                                                             {"t", 1e12},
                                                             {"g", 1e9},
                                                             {"m", 1e6},
                                                             {"k", 1e3},
                                                             {"b", 1}};
  double unit = 1;
  for (const auto& [suffix, factor] : kUnits) {
    if (!absl::ConsumeSuffix(&rest, suffix)) continue;
    unit = factor;
    break;
  }
  double number = 0;
  if (!absl::SimpleAtod(absl::StripAsciiWhitespace(rest), &number) || !(number >= 0) ||
      number * unit > 9e18)
    return bad();
  space.bytes = static_cast<int64_t>(number * unit);
  return space;
}

absl::StatusOr<absl::Duration> ParseConfigDuration(absl::string_view text) {
  int64_t seconds = 0;
  if (absl::SimpleAtoi(text, &seconds) && seconds >= 0) return absl::Seconds(seconds);
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration < absl::ZeroDuration())
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a duration"));
  return duration;
}

}  // namespace kiln::daemon
