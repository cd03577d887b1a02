#include "daemon/frontend/dockerfile/syntax/json_array.h"

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/strip.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "proto/utf8.h"

namespace kiln::daemon::dockerfile {

namespace {

// Reads an array of strings and nothing else. A library would do but for lone surrogates, which it
// refuses and Go replaces; and this is the hot path.
class StringArrayReader {
 public:
  explicit StringArrayReader(absl::string_view text) : rest_(text) {}

  // False at the first thing that is not part of such an array.
  bool Read(std::vector<std::string>* out) {
    SkipBlanks();
    if (!absl::ConsumePrefix(&rest_, "[")) return false;
    SkipBlanks();
    if (absl::ConsumePrefix(&rest_, "]")) return AtEnd();
    while (true) {
      if (!String(&out->emplace_back())) return false;
      SkipBlanks();
      if (absl::ConsumePrefix(&rest_, "]")) return AtEnd();
      if (!absl::ConsumePrefix(&rest_, ",")) return false;
      SkipBlanks();
    }
  }

 private:
  void SkipBlanks() {
    while (!rest_.empty() && absl::string_view(" \t\r\n").find(rest_[0]) != rest_.npos)
      rest_.remove_prefix(1);
  }
  bool AtEnd() {
    SkipBlanks();
    return rest_.empty();
  }
  bool String(std::string* out);
  bool Escape(std::string* out);
  // The four digits of \uXXXX.
  std::optional<char32_t> Hex4(absl::string_view text) const {
    if (text.size() < 4) return std::nullopt;
    char32_t value = 0;
    for (const char c : text.substr(0, 4)) {
      const char lower = static_cast<char>(c | 0x20);
      if (c >= '0' && c <= '9') {
        value = value << 4 | static_cast<char32_t>(c - '0');
      } else if (lower >= 'a' && lower <= 'f') {
        value = value << 4 | static_cast<char32_t>(lower - 'a' + 10);
      } else {
        return std::nullopt;
      }
    }
    return value;
  }

  absl::string_view rest_;
};

bool StringArrayReader::String(std::string* out) {
  if (!absl::ConsumePrefix(&rest_, "\"")) return false;
  while (!rest_.empty()) {
    if (absl::ConsumePrefix(&rest_, "\"")) return true;
    if (absl::ConsumePrefix(&rest_, "\\")) {
      if (!Escape(out)) return false;
      continue;
    }
    const Rune rune = DecodeRune(rest_);
    if (rune.value < 0x20) return false;
    AppendRune(rune.value, out);
    rest_.remove_prefix(rune.width);
  }
  return false;
}

bool StringArrayReader::Escape(std::string* out) {
  if (rest_.empty()) return false;
  const char c = rest_[0];
  rest_.remove_prefix(1);
  constexpr absl::string_view kFrom = "\"\\/bfnrt";
  constexpr absl::string_view kTo = "\"\\/\b\f\n\r\t";
  if (const size_t index = kFrom.find(c); index != absl::string_view::npos) {
    out->push_back(kTo[index]);
    return true;
  }
  if (c != 'u') return false;
  const std::optional<char32_t> unit = Hex4(rest_);
  if (!unit.has_value()) return false;
  rest_.remove_prefix(4);
  char32_t rune = *unit;
  if (rune >= 0xD800 && rune <= 0xDFFF) {
    std::optional<char32_t> low;
    if (rest_.substr(0, 2) == "\\u") low = Hex4(rest_.substr(2));
    if (rune <= 0xDBFF && low.has_value() && *low >= 0xDC00 && *low <= 0xDFFF) {
      rest_.remove_prefix(6);
      rune = 0x10000 + ((rune & 0x3FF) << 10 | (*low & 0x3FF));
    } else {
      rune = kReplacementChar;
    }
  }
  AppendRune(rune, out);
  return true;
}

}  // namespace

absl::StatusOr<std::optional<std::vector<std::string>>> ParseJsonStrings(absl::string_view text) {
  text = TrimLeadingSpace(text);
  if (text.empty() || text[0] != '[') return std::nullopt;
  std::vector<std::string> strings;
  if (StringArrayReader(text).Read(&strings)) return strings;
  if (!nlohmann::json::accept(ToValidUtf8(text))) return std::nullopt;
  return absl::InvalidArgumentError(
      "when using JSON array syntax, arrays must be comprised of strings only");
}

}  // namespace kiln::daemon::dockerfile
