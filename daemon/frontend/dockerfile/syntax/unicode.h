#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

// UTF-8 text and the classes of characters that Dockerfiles are defined by (Go's package unicode).
namespace kiln::daemon::dockerfile {

inline constexpr char32_t kReplacementChar = 0xFFFD;

struct Rune {
  char32_t value = 0;
  size_t width = 0;  // in bytes; 1 for a broken byte, whose value is kReplacementChar
};

// The character that begins `text`, which must not be empty.
Rune DecodeRune(absl::string_view text);
void AppendRune(char32_t rune, std::string* out);

bool IsSpace(char32_t rune);
bool IsLetter(char32_t rune);
bool IsDigit(char32_t rune);
// Letters, marks, numbers, punctuation, symbols and the ASCII blank.
bool IsPrintable(char32_t rune);

// Without the white space at the beginning, or at both ends.
absl::string_view TrimLeadingSpace(absl::string_view text);
absl::string_view TrimSpace(absl::string_view text);

// Without a byte order mark at the beginning.
absl::string_view StripBom(absl::string_view text);

}  // namespace kiln::daemon::dockerfile
