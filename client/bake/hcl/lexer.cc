#include "client/bake/hcl/lexer.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

// Any byte of a character beyond ASCII counts as a letter.
bool IsIdentifierStart(char c) {
  return absl::ascii_isalpha(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool IsIdentifierPart(char c) { return IsIdentifierStart(c) || absl::ascii_isdigit(c) || c == '-'; }

// Longest first.
constexpr absl::string_view kSymbols[] = {"...", "==", "!=", "<=", ">=", "&&", "||", "=>", "{", "}",
                                          "[",   "]",  "(",  ")",  "=",  "!",  "<",  ">",  "+", "-",
                                          "*",   "/",  "%",  "?",  ":",  ",",  ".",  "~"};

}  // namespace

void Lexer::Skip(size_t bytes) {
  for (; bytes > 0 && at_ < text_.size(); --bytes, ++at_) {
    ++position_.column;
    if (text_[at_] != '\n') continue;
    ++position_.line;
    position_.column = 1;
  }
}

absl::Status Lexer::SkipSpace(bool* newline) {
  while (!AtEnd()) {
    const absl::string_view text = rest();
    if (absl::StartsWith(text, "#") || absl::StartsWith(text, "//")) {
      Skip(std::min(text.find('\n'), text.size()));
    } else if (absl::StartsWith(text, "/*")) {
      const size_t end = text.find("*/", 2);
      if (end == absl::string_view::npos) return ErrorAt(position_, "this comment has no end");
      Skip(end + 2);
    } else if (absl::ascii_isspace(text[0])) {
      *newline = *newline || text[0] == '\n';
      Skip(1);
    } else {
      return absl::OkStatus();
    }
  }
  return absl::OkStatus();
}

absl::Status Lexer::Number(Token* token) {
  const absl::string_view text = rest();
  size_t end = 0;
  const auto digits = [&] {
    while (end < text.size() && absl::ascii_isdigit(text[end])) ++end;
  };
  digits();
  if (!after_dot_) {
    if (end + 1 < text.size() && text[end] == '.' && absl::ascii_isdigit(text[end + 1])) {
      ++end;
      digits();
    }
    if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
      ++end;
      if (end < text.size() && (text[end] == '+' || text[end] == '-')) ++end;
      digits();
    }
  }
  const absl::StatusOr<double> number = ParseNumber(text.substr(0, end));
  if (!number.ok()) return ErrorAt(position_, number.status().message());
  token->kind = Token::Kind::kNumber;
  token->number = *number;
  Skip(end);
  return absl::OkStatus();
}

absl::Status Lexer::Heredoc(Token* token) {
  absl::string_view line = rest().substr(0, rest().find('\n'));
  const size_t length = line.size();
  absl::ConsumePrefix(&line, "<<");
  token->flush = absl::ConsumePrefix(&line, "-");
  line = absl::StripTrailingAsciiWhitespace(line);
  bool good = !line.empty() && IsIdentifierStart(line[0]);
  for (char c : line) good = good && IsIdentifierPart(c);
  if (!good || length == rest().size())
    return ErrorAt(position_, "after << only the marker of the text may follow on the line");
  token->kind = Token::Kind::kHeredoc;
  token->text = std::string(line);
  Skip(length + 1);
  return absl::OkStatus();
}

absl::Status Lexer::Next(Token* token) {
  *token = Token();
  KILN_RETURN_IF_ERROR(SkipSpace(&token->after_newline));
  token->position = position_;
  const bool after_dot = after_dot_;
  if (AtEnd()) return absl::OkStatus();
  const absl::string_view text = rest();
  if (absl::ascii_isdigit(text[0])) {
    const absl::Status status = Number(token);
    after_dot_ = false;
    return status;
  }
  after_dot_ = false;
  if (IsIdentifierStart(text[0])) {
    size_t end = 1;
    while (end < text.size() && IsIdentifierPart(text[end])) ++end;
    token->kind = Token::Kind::kIdentifier;
    token->text = std::string(text.substr(0, end));
    Skip(end);
    return absl::OkStatus();
  }
  if (text[0] == '"') {
    token->kind = Token::Kind::kQuote;
    Skip(1);
    return absl::OkStatus();
  }
  if (absl::StartsWith(text, "<<")) return Heredoc(token);
  for (const absl::string_view symbol : kSymbols) {
    if (!absl::StartsWith(text, symbol)) continue;
    token->kind = Token::Kind::kSymbol;
    token->text = std::string(symbol);
    after_dot_ = symbol == "." && !after_dot;
    Skip(symbol.size());
    return absl::OkStatus();
  }
  return ErrorAt(position_,
                 absl::StrCat("unexpected character '", absl::CHexEscape(text.substr(0, 1)), "'"));
}

}  // namespace kiln::client::hcl
