#include "daemon/frontend/dockerfile/go_format.h"

#include <charconv>
#include <system_error>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"

namespace kiln::daemon::dockerfile {
namespace {

template <typename Number>
absl::StatusOr<Number> ParseNumber(absl::string_view function, absl::string_view text) {
  const auto fail = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("strconv.", function, ": parsing ", Quote(text), ": ", why));
  };
  absl::string_view digits = text;
  // Go takes a plus sign too, for signed numbers.
  if (std::is_signed_v<Number> && !digits.empty() && digits[0] == '+') digits.remove_prefix(1);
  if (digits.empty() || (digits.size() < text.size() && digits[0] == '-')) {
    return fail("invalid syntax");
  }
  Number number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (end != digits.data() + digits.size()) return fail("invalid syntax");
  if (error == std::errc::result_out_of_range) return fail("value out of range");
  if (error != std::errc()) return fail("invalid syntax");
  return number;
}

}  // namespace

std::string QuoteList(const std::vector<std::string>& list) {
  return absl::StrCat(
      "[",
      absl::StrJoin(list, " ",
                    [](std::string* out, const std::string& item) { *out += Quote(item); }),
      "]");
}

std::string PlainList(const std::vector<std::string>& list) {
  return absl::StrCat("[", absl::StrJoin(list, " "), "]");
}

std::string DurationText(int64_t nanoseconds) {
  if (nanoseconds == 0) return "0s";
  const bool negative = nanoseconds < 0;
  uint64_t rest = negative ? -static_cast<uint64_t>(nanoseconds) : nanoseconds;
  // A number of `unit` nanoseconds with the fraction that is needed.
  const auto fraction = [](uint64_t value, uint64_t unit) {
    std::string text = absl::StrCat(value / unit);
    uint64_t part = value % unit;
    if (part == 0) return text;
    text += '.';
    while (part != 0) {
      part *= 10;
      text += static_cast<char>('0' + part / unit);
      part %= unit;
    }
    return text;
  };
  constexpr uint64_t kSecond = 1000000000;
  std::string out = negative ? "-" : "";
  if (rest < 1000) return absl::StrCat(out, rest, "ns");
  if (rest < 1000000) return absl::StrCat(out, fraction(rest, 1000), "µs");
  if (rest < kSecond) return absl::StrCat(out, fraction(rest, 1000000), "ms");
  const uint64_t hours = rest / (3600 * kSecond);
  const uint64_t minutes = rest / (60 * kSecond) % 60;
  if (hours > 0) absl::StrAppend(&out, hours, "h");
  if (hours > 0 || minutes > 0) absl::StrAppend(&out, minutes, "m");
  return absl::StrCat(out, fraction(rest % (60 * kSecond), kSecond), "s");
}

absl::StatusOr<int64_t> ParseInt(absl::string_view text) {
  return ParseNumber<int64_t>("ParseInt", text);
}

absl::StatusOr<uint64_t> ParseUint(absl::string_view text) {
  return ParseNumber<uint64_t>("ParseUint", text);
}

}  // namespace kiln::daemon::dockerfile
