#include "daemon/frontend/dockerfile/syntax/unicode.h"

#include <re2/re2.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace kiln::daemon::dockerfile {

namespace {

// RE2 carries the Unicode tables. The classes are made once and live as long as the process.
bool InClass(char32_t rune, const RE2& one_character) {
  std::string text;
  AppendRune(rune, &text);
  return RE2::FullMatch(text, one_character);
}

bool IsContinuationByte(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

Rune DecodeRune(absl::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  const size_t width = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  const Rune broken{kReplacementChar, 1};
  if (lead < 0xC2 || lead > 0xF4 || text.size() < width) return broken;
  char32_t value = lead & (0x7F >> width);
  for (size_t i = 1; i < width; ++i) {
    if (!IsContinuationByte(text[i])) return broken;
    value = value << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kSmallest[width] || surrogate || value > 0x10FFFF) return broken;
  return {value, width};
}

void AppendRune(char32_t rune, std::string* out) {
  const auto tail = [&](int shift) {
    out->push_back(static_cast<char>(0x80 | (rune >> shift & 0x3F)));
  };
  if (rune < 0x80) {
    out->push_back(static_cast<char>(rune));
  } else if (rune < 0x800) {
    out->push_back(static_cast<char>(0xC0 | rune >> 6));
    tail(0);
  } else if (rune < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | rune >> 12));
    tail(6);
    tail(0);
  } else {
    out->push_back(static_cast<char>(0xF0 | rune >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

bool IsSpace(char32_t rune) {
  if (rune < 0x80) return absl::ascii_isspace(static_cast<unsigned char>(rune));
  return rune == 0x85 || rune == 0xA0 || rune == 0x1680 || (rune >= 0x2000 && rune <= 0x200A) ||
         rune == 0x2028 || rune == 0x2029 || rune == 0x202F || rune == 0x205F || rune == 0x3000;
}

bool IsLetter(char32_t rune) {
  if (rune < 0x80) return absl::ascii_isalpha(static_cast<unsigned char>(rune));
  static const RE2& letter = *new RE2("\\pL");
  return InClass(rune, letter);
}

bool IsDigit(char32_t rune) {
  if (rune < 0x80) return absl::ascii_isdigit(static_cast<unsigned char>(rune));
  static const RE2& digit = *new RE2("\\p{Nd}");
  return InClass(rune, digit);
}

bool IsPrintable(char32_t rune) {
  if (rune < 0x80) return absl::ascii_isprint(static_cast<unsigned char>(rune));
  static const RE2& printable = *new RE2("[\\pL\\pM\\pN\\pP\\pS]");
  return InClass(rune, printable);
}

absl::string_view TrimLeadingSpace(absl::string_view text) {
  while (!text.empty()) {
    const Rune rune = DecodeRune(text);
    if (!IsSpace(rune.value)) break;
    text.remove_prefix(rune.width);
  }
  return text;
}

absl::string_view TrimSpace(absl::string_view text) {
  text = TrimLeadingSpace(text);
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && IsContinuationByte(text[start])) --start;
    const Rune rune = DecodeRune(text.substr(start));
    if (start + rune.width != text.size() || !IsSpace(rune.value)) break;
    text.remove_suffix(rune.width);
  }
  return text;
}

absl::string_view StripBom(absl::string_view text) {
  constexpr absl::string_view kBom = "\xEF\xBB\xBF";
  if (absl::StartsWith(text, kBom)) text.remove_prefix(kBom.size());
  return text;
}

}  // namespace kiln::daemon::dockerfile
