#include "daemon/frontend/dockerfile/syntax/go_text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

absl::string_view ShortEscape(char32_t rune) {
  switch (rune) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\a':
      return "\\a";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\v':
      return "\\v";
    default:
      return "";
  }
}

std::string Escape(const Rune& rune, unsigned char byte) {
  if (rune.value == kReplacementChar && rune.width == 1) return absl::StrFormat("\\x%02x", byte);
  if (rune.value < 0x80) return absl::StrFormat("\\x%02x", static_cast<uint32_t>(rune.value));
  if (rune.value < 0x10000) return absl::StrFormat("\\u%04x", static_cast<uint32_t>(rune.value));
  return absl::StrFormat("\\U%08x", static_cast<uint32_t>(rune.value));
}

// The unit that begins `text` in nanoseconds, and its length; {0, n} when it is none.
std::pair<int64_t, size_t> DurationUnit(absl::string_view text) {
  const size_t length = std::min(text.find_first_of(".0123456789"), text.size());
  const absl::string_view unit = text.substr(0, length);
  if (unit == "ns") return {1, length};
  if (unit == "us" || unit == "\u00b5s" || unit == "\u03bcs") return {1'000, length};
  if (unit == "ms") return {1'000'000, length};
  if (unit == "s") return {1'000'000'000, length};
  if (unit == "m") return {60'000'000'000, length};
  if (unit == "h") return {3'600'000'000'000, length};
  return {0, length};
}

absl::string_view TakeDigits(absl::string_view* text) {
  size_t length = 0;
  while (length < text->size() && absl::ascii_isdigit((*text)[length])) ++length;
  const absl::string_view digits = text->substr(0, length);
  text->remove_prefix(length);
  return digits;
}

}  // namespace

std::string Quote(absl::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const Rune rune = DecodeRune(text);
    const bool broken = rune.value == kReplacementChar && rune.width == 1;
    if (const absl::string_view escape = ShortEscape(rune.value); !escape.empty()) {
      absl::StrAppend(&out, escape);
    } else if (broken || !IsPrintable(rune.value)) {
      absl::StrAppend(&out, Escape(rune, static_cast<unsigned char>(text[0])));
    } else {
      absl::StrAppend(&out, text.substr(0, rune.width));
    }
    text.remove_prefix(rune.width);
  }
  out.push_back('"');
  return out;
}

std::optional<bool> ParseBool(absl::string_view text) {
  for (const absl::string_view word : {"1", "t", "T", "TRUE", "true", "True"}) {
    if (text == word) return true;
  }
  for (const absl::string_view word : {"0", "f", "F", "FALSE", "false", "False"}) {
    if (text == word) return false;
  }
  return std::nullopt;
}

std::optional<uint32_t> ParseUint32(absl::string_view text, int base) {
  if (text.empty()) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c >= '0' + base) return std::nullopt;
    value = value * base + (c - '0');
    if (value > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  }
  return static_cast<uint32_t>(value);
}

absl::StatusOr<int32_t> ParseInt32(absl::string_view text) {
  const auto fail = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("strconv.ParseInt: parsing ", Quote(text), ": ", why));
  };
  absl::string_view digits = text;
  const bool negative = absl::ConsumePrefix(&digits, "-");
  if (!negative) absl::ConsumePrefix(&digits, "+");
  if (digits.empty()) return fail("invalid syntax");
  for (const char c : digits) {
    if (!absl::ascii_isdigit(c)) return fail("invalid syntax");
  }
  const std::optional<uint32_t> magnitude = ParseUint32(digits, 10);
  constexpr uint32_t kMax = std::numeric_limits<int32_t>::max();
  if (!magnitude.has_value() || *magnitude > kMax + (negative ? 1 : 0))
    return fail("value out of range");
  return static_cast<int32_t>(negative ? -int64_t{*magnitude} : int64_t{*magnitude});
}

absl::StatusOr<absl::Duration> ParseGoDuration(absl::string_view text) {
  const auto fail = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("time: ", why, "duration ", Quote(text)));
  };
  absl::string_view rest = text;
  const bool negative = absl::ConsumePrefix(&rest, "-");
  if (!negative) absl::ConsumePrefix(&rest, "+");
  if (rest == "0") return absl::ZeroDuration();
  if (rest.empty()) return fail("invalid ");
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  int64_t total = 0;
  while (!rest.empty()) {
    const absl::string_view whole = TakeDigits(&rest);
    absl::string_view fraction;
    if (absl::ConsumePrefix(&rest, ".")) fraction = TakeDigits(&rest);
    if (whole.empty() && fraction.empty()) return fail("invalid ");
    const auto [unit, length] = DurationUnit(rest);
    if (length == 0) return fail("missing unit in ");
    if (unit == 0)
      return fail(absl::StrCat("unknown unit ", Quote(rest.substr(0, length)), " in "));
    rest.remove_prefix(length);
    int64_t count = 0;
    if (!whole.empty() && !absl::SimpleAtoi(whole, &count)) return fail("invalid ");
    double part = 0;
    if (!fraction.empty() && !absl::SimpleAtod(absl::StrCat("0.", fraction), &part))
      return fail("invalid ");
    if (count > (kMax - unit) / unit) return fail("invalid ");
    const int64_t nanoseconds = count * unit + static_cast<int64_t>(part * unit);
    if (nanoseconds > kMax - total) return fail("invalid ");
    total += nanoseconds;
  }
  return absl::Nanoseconds(negative ? -total : total);
}

std::optional<int64_t> ParseRamSize(absl::string_view text) {
  const size_t last = text.find_last_of("0123456789. ");
  if (last == absl::string_view::npos) return std::nullopt;
  const absl::string_view number = text.substr(0, text[last] == ' ' ? last : last + 1);
  const std::string suffix = absl::AsciiStrToLower(text.substr(last + 1));
  double size = 0;
  if (number.find_first_not_of("0123456789.eE+-") != absl::string_view::npos ||
      !absl::SimpleAtod(number, &size) || size < 0) {
    return std::nullopt;
  }
  if (!suffix.empty() && suffix != "b") {
    constexpr absl::string_view kUnits = "kmgtp";
    const size_t power = kUnits.find(suffix[0]);
    const absl::string_view tail = absl::string_view(suffix).substr(1);
    if (power == absl::string_view::npos || (!tail.empty() && tail != "b" && tail != "ib"))
      return std::nullopt;
    size *= std::exp2(10.0 * static_cast<double>(power + 1));
  }
  if (size >= std::exp2(63)) return std::nullopt;
  return static_cast<int64_t>(size);
}

}  // namespace kiln::daemon::dockerfile
