#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/bake/hcl/ast.h"
#include "client/bake/hcl/lexer.h"

namespace kiln::client::hcl {

// Parses expressions and templates by recursive descent. Holds one token of look-ahead; the text of
// strings is read straight from the lexer.
class ExpressionParser {
 public:
  static constexpr int kMaxDepth = 100;

  ExpressionParser(absl::string_view text, Position start) : lexer_(text, std::move(start)) {}

  // The look-ahead.
  const Token& token() const { return token_; }
  absl::Status Advance() { return lexer_.Next(&token_); }
  bool At(absl::string_view symbol) const {
    return token_.kind == Token::Kind::kSymbol && token_.text == symbol;
  }
  // Moves past `symbol`. kInvalidArgument if another token is there.
  absl::Status Expect(absl::string_view symbol);
  absl::Status Unexpected(absl::string_view wanted) const;

  // An expression from the look-ahead on. A newline ends it, unless in brackets.
  absl::StatusOr<ExprPtr> Expression();
  // A quoted string without templates, at its quote.
  absl::StatusOr<std::string> PlainString();

  // The whole text as a template, as in a heredoc; nested in `depth` others.
  static absl::StatusOr<ExprPtr> Template(absl::string_view text, Position start, int depth);

 private:
  struct Parts;
  class Nesting;

  bool Continues(absl::string_view symbol) const {
    return At(symbol) && (!token_.after_newline || brackets_ > 0);
  }
  absl::StatusOr<ExprPtr> Binary(size_t level);
  absl::StatusOr<ExprPtr> Unary();
  absl::StatusOr<ExprPtr> Postfix();
  absl::StatusOr<ExprPtr> Primary();
  absl::StatusOr<ExprPtr> Name();
  absl::Status Splat(ExprPtr* base, bool full);
  absl::Status Access(ExprPtr* base);
  absl::StatusOr<ExprPtr> Brackets(absl::string_view open);
  absl::StatusOr<ExprPtr> For(Expr::Kind kind, Position position);
  absl::Status ForHead(Expr* loop);
  absl::StatusOr<ExprPtr> Object(Position position);
  absl::StatusOr<ExprPtr> Quoted();
  absl::StatusOr<ExprPtr> HeredocText();
  absl::Status TemplateParts(Parts* parts);
  absl::Status Directive(Parts* parts);
  absl::StatusOr<ExprPtr> Join(Parts* parts, Position position);

  Lexer lexer_;
  Token token_;
  int depth_ = 0;
  int brackets_ = 0;  // open ( and [ and interpolations: newlines mean nothing there
};

ExprPtr MakeExpr(Expr::Kind kind, Position position);

}  // namespace kiln::client::hcl
