#include "client/bake/hcl/template_text.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

void AppendUtf8(uint32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
    return;
  }
  const int extra = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr int kFirst[] = {0, 0xC0, 0xE0, 0xF0};
  out->push_back(static_cast<char>(kFirst[extra] | (code >> (6 * extra))));
  for (int i = extra - 1; i >= 0; --i)
    out->push_back(static_cast<char>(0x80 | ((code >> (6 * i)) & 0x3F)));
}

// The digits after "\u" or "\U".
absl::StatusOr<uint32_t> HexDigits(Lexer* lexer, size_t count) {
  const absl::string_view digits = lexer->rest().substr(0, count);
  uint32_t code = 0;
  for (char c : digits) {
    if (!absl::ascii_isxdigit(c)) break;
    code = code * 16 + (absl::ascii_isdigit(c) ? c - '0' : absl::ascii_tolower(c) - 'a' + 10);
  }
  if (digits.size() < count || !std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit))
    return ErrorAt(lexer->position(),
                   absl::StrCat("this escape needs ", count, " hexadecimal digits"));
  lexer->Skip(count);
  return code;
}

bool IsSurrogate(uint32_t code) { return code >= 0xD800 && code < 0xE000; }

}  // namespace

absl::Status AppendEscape(Lexer* lexer, bool json, std::string* out) {
  const Position position = lexer->position();
  const absl::string_view text = lexer->rest();
  const char c = text.size() > 1 ? text[1] : '\0';
  constexpr absl::string_view kNames = "nrt\"\\/bf";
  constexpr absl::string_view kBytes = "\n\r\t\"\\/\b\f";
  const size_t known = c == '\0' ? absl::string_view::npos : kNames.find(c);
  if (known != absl::string_view::npos && (json || known < 5)) {
    out->push_back(kBytes[known]);
    lexer->Skip(2);
    return absl::OkStatus();
  }
  if (c != 'u' && (c != 'U' || json)) return ErrorAt(position, "unknown escape");
  lexer->Skip(2);
  KILN_ASSIGN_OR_RETURN(uint32_t code, HexDigits(lexer, c == 'u' ? 4 : 8));
  if (json && code >= 0xD800 && code < 0xDC00 && lexer->rest().substr(0, 2) == "\\u") {
    lexer->Skip(2);
    KILN_ASSIGN_OR_RETURN(const uint32_t low, HexDigits(lexer, 4));
    if (low >= 0xDC00 && low < 0xE000) code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  if (code > 0x10FFFF || IsSurrogate(code)) return ErrorAt(position, "no such character");
  AppendUtf8(code, out);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadHeredoc(Lexer* lexer, const Token& token) {
  struct Line {
    absl::string_view text;
    bool indented;  // its indentation counts, and is removed
  };
  std::vector<Line> lines;
  size_t indent = absl::string_view::npos;
  bool continued = false;  // by "~}" at the end of the line before
  while (true) {
    if (lexer->AtEnd())
      return ErrorAt(token.position, absl::StrCat("this text is not ended by ", token.text));
    const absl::string_view rest = lexer->rest();
    const size_t end = rest.find('\n');
    const absl::string_view line =
        rest.substr(0, end == absl::string_view::npos ? rest.size() : end + 1);
    const absl::string_view content = absl::StripAsciiWhitespace(line);
    if (content == token.text) {
      // The end of the line stays: it ends the attribute.
      lexer->Skip(absl::StripTrailingAsciiWhitespace(line).size());
      break;
    }
    lines.push_back({line, token.flush && !content.empty() && !continued});
    // A "~" at the begin of a line takes its indentation, before that is compared.
    const bool stripped = absl::StartsWith(content, "%{~") || absl::StartsWith(content, "${~");
    if (lines.back().indented)
      indent = std::min(indent, stripped ? 0 : line.find_first_not_of(" \t"));
    continued = absl::EndsWith(content, "~}");
    lexer->Skip(line.size());
  }
  std::string text;
  for (const Line& line : lines) {
    const absl::string_view kept = line.text.substr(line.indented ? indent : 0);
    text.append(kept.data(), kept.size());
  }
  return text;
}

}  // namespace kiln::client::hcl
