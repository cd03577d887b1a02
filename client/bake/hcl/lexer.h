#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/bake/hcl/ast.h"

namespace kiln::client::hcl {

struct Token {
  enum class Kind {
    kEnd,
    kIdentifier,
    kNumber,
    kQuote,    // '"'; the text of the string follows
    kHeredoc,  // "<<" or "<<-" with its marker and the end of the line; the text follows
    kSymbol,   // operators and brackets
  };
  Kind kind = Kind::kEnd;
  std::string text;    // identifier, symbol, marker of a heredoc
  double number = 0;   // of kNumber
  bool flush = false;  // "<<-": common indentation is removed
  bool after_newline = false;
  Position position;
};

// Cuts HCL into tokens, one at a time, so that the parser may read the text of strings by
// character. A copy is a place to come back to.
class Lexer {
 public:
  // `text` must outlive the lexer.
  Lexer(absl::string_view text, Position start) : text_(text), position_(std::move(start)) {}

  // kInvalidArgument for what is no token.
  absl::Status Next(Token* token);

  // Reading by character.
  bool AtEnd() const { return at_ >= text_.size(); }
  absl::string_view rest() const { return text_.substr(at_); }
  void Skip(size_t bytes);
  const Position& position() const { return position_; }

 private:
  absl::Status SkipSpace(bool* newline);
  absl::Status Number(Token* token);
  absl::Status Heredoc(Token* token);

  absl::string_view text_;
  size_t at_ = 0;
  Position position_;
  bool after_dot_ = false;  // digits are an index then: a.0.1
};

}  // namespace kiln::client::hcl
