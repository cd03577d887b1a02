#include "client/bake/hcl/expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/bake/hcl/template_text.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {

ExprPtr MakeExpr(Expr::Kind kind, Position position) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->position = std::move(position);
  return expr;
}

namespace {

// What "~" removes: space up to the end of the line, that included.
absl::string_view StripLeft(absl::string_view text) {
  const size_t line = std::min(text.find('\n'), text.size() - 1) + 1;
  const size_t first = std::min(text.find_first_not_of(" \t\r\n"), text.size());
  return text.substr(std::min(first, line));
}

// The same before it: space of the line, or of the line above when nothing else is on its own.
absl::string_view StripRight(absl::string_view text) {
  size_t line = text.empty() ? 0 : text.rfind('\n', text.size() - 1);
  if (line != absl::string_view::npos && line + 1 == text.size())
    line = line == 0 ? absl::string_view::npos : text.rfind('\n', line - 1);
  const size_t begin = line == absl::string_view::npos ? 0 : line + 1;
  return text.substr(0, std::max(begin, absl::StripTrailingAsciiWhitespace(text).size()));
}

}  // namespace

// Counts a level of nesting for as long as it lives.
class ExpressionParser::Nesting {
 public:
  explicit Nesting(int* depth) : depth_(depth) { ++*depth_; }
  ~Nesting() { --*depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;
  absl::Status Check(const Position& position) const {
    return *depth_ > kMaxDepth ? ErrorAt(position, "this is nested too deeply") : absl::OkStatus();
  }

 private:
  int* const depth_;
};

absl::Status ExpressionParser::Unexpected(absl::string_view wanted) const {
  std::string found = absl::StrCat("\"", token_.text, "\"");
  if (token_.kind == Token::Kind::kEnd) found = "the end";
  if (token_.kind == Token::Kind::kNumber) found = FormatNumber(token_.number);
  if (token_.kind == Token::Kind::kQuote) found = "a string";
  if (token_.kind == Token::Kind::kHeredoc) found = absl::StrCat("<<", token_.text);
  return ErrorAt(token_.position, absl::StrCat(wanted, " is expected here, not ", found));
}

absl::Status ExpressionParser::Expect(absl::string_view symbol) {
  if (!At(symbol)) return Unexpected(absl::StrCat("\"", symbol, "\""));
  return Advance();
}

absl::StatusOr<ExprPtr> ExpressionParser::Expression() {
  const Nesting nesting(&depth_);
  KILN_RETURN_IF_ERROR(nesting.Check(token_.position));
  KILN_ASSIGN_OR_RETURN(ExprPtr condition, Binary(0));
  if (!Continues("?")) return condition;
  ExprPtr expr = MakeExpr(Expr::Kind::kConditional, token_.position);
  expr->children.push_back(std::move(condition));
  KILN_RETURN_IF_ERROR(Advance());
  // The parts of a conditional may stand on lines of their own.
  ++brackets_;
  KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Expression());
  KILN_RETURN_IF_ERROR(Expect(":"));
  --brackets_;
  KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Expression());
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::Binary(size_t level) {
  static const std::vector<std::vector<absl::string_view>> kLevels = {
      {"||"}, {"&&"}, {"==", "!="}, {"<", ">", "<=", ">="}, {"+", "-"}, {"*", "/", "%"}};
  if (level == kLevels.size()) return Unary();
  KILN_ASSIGN_OR_RETURN(ExprPtr left, Binary(level + 1));
  // A tree of operators leans to the left; its height counts as nesting, for who walks it.
  for (int height = depth_;; ++height) {
    bool found = false;
    for (const absl::string_view symbol : kLevels[level]) found = found || Continues(symbol);
    if (!found) return left;
    if (height > kMaxDepth * 2) return ErrorAt(token_.position, "too many operators in a row");
    ExprPtr expr = MakeExpr(Expr::Kind::kBinary, token_.position);
    expr->text = token_.text;
    KILN_RETURN_IF_ERROR(Advance());
    expr->children.push_back(std::move(left));
    KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Binary(level + 1));
    left = std::move(expr);
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::Unary() {
  if (!At("-") && !At("!")) return Postfix();
  const Nesting nesting(&depth_);
  KILN_RETURN_IF_ERROR(nesting.Check(token_.position));
  ExprPtr expr = MakeExpr(Expr::Kind::kUnary, token_.position);
  expr->text = token_.text;
  KILN_RETURN_IF_ERROR(Advance());
  KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Unary());
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::Postfix() {
  KILN_ASSIGN_OR_RETURN(ExprPtr expr, Primary());
  for (int height = depth_; Continues(".") || Continues("["); ++height) {
    if (height > kMaxDepth * 2) return ErrorAt(token_.position, "too many accesses in a row");
    KILN_RETURN_IF_ERROR(Access(&expr));
  }
  return expr;
}

// ".name", ".0", "[key]", ".*" or "[*]" behind `base`.
absl::Status ExpressionParser::Access(ExprPtr* base) {
  const Position position = token_.position;
  const bool dot = At(".");
  KILN_RETURN_IF_ERROR(Advance());
  if (At("*")) {
    KILN_RETURN_IF_ERROR(Advance());
    if (!dot) KILN_RETURN_IF_ERROR(Expect("]"));
    return Splat(base, !dot);
  }
  ExprPtr expr = MakeExpr(Expr::Kind::kIndex, position);
  expr->children.push_back(std::move(*base));
  if (!dot) {
    ++brackets_;
    KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Expression());
    KILN_RETURN_IF_ERROR(Expect("]"));
    --brackets_;
  } else if (token_.kind == Token::Kind::kNumber) {
    expr->children.push_back(MakeExpr(Expr::Kind::kLiteral, token_.position));
    expr->children.back()->literal = Value(token_.number);
    KILN_RETURN_IF_ERROR(Advance());
  } else if (token_.kind == Token::Kind::kIdentifier) {
    expr->kind = Expr::Kind::kAttribute;
    expr->text = token_.text;
    KILN_RETURN_IF_ERROR(Advance());
  } else {
    return Unexpected("a name");
  }
  *base = std::move(expr);
  return absl::OkStatus();
}

// What follows a splat is applied to each item; after ".*" only names are.
absl::Status ExpressionParser::Splat(ExprPtr* base, bool full) {
  const Nesting nesting(&depth_);
  KILN_RETURN_IF_ERROR(nesting.Check(token_.position));
  ExprPtr expr = MakeExpr(Expr::Kind::kSplat, token_.position);
  expr->children.push_back(std::move(*base));
  ExprPtr item = MakeExpr(Expr::Kind::kSplatItem, token_.position);
  for (int height = depth_; Continues(".") || (full && Continues("[")); ++height) {
    if (height > kMaxDepth * 2) return ErrorAt(token_.position, "too many accesses in a row");
    KILN_RETURN_IF_ERROR(Access(&item));
  }
  expr->children.push_back(std::move(item));
  *base = std::move(expr);
  return absl::OkStatus();
}

absl::StatusOr<ExprPtr> ExpressionParser::Primary() {
  const Position position = token_.position;
  switch (token_.kind) {
    case Token::Kind::kNumber: {
      ExprPtr expr = MakeExpr(Expr::Kind::kLiteral, position);
      expr->literal = Value(token_.number);
      KILN_RETURN_IF_ERROR(Advance());
      return expr;
    }
    case Token::Kind::kIdentifier:
      return Name();
    case Token::Kind::kQuote:
      return Quoted();
    case Token::Kind::kHeredoc:
      return HeredocText();
    case Token::Kind::kSymbol:
      for (const absl::string_view open : {"(", "[", "{"})
        if (At(open)) return Brackets(open);
      break;
    case Token::Kind::kEnd:
      break;
  }
  return Unexpected("an expression");
}

absl::StatusOr<ExprPtr> ExpressionParser::Name() {
  ExprPtr expr = MakeExpr(Expr::Kind::kLiteral, token_.position);
  const std::string name = token_.text;
  KILN_RETURN_IF_ERROR(Advance());
  if (At("(") && !token_.after_newline) {
    expr->kind = Expr::Kind::kCall;
    expr->text = name;
    ++brackets_;
    KILN_RETURN_IF_ERROR(Advance());
    while (!At(")")) {
      KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Expression());
      if (At("...")) {
        expr->flag = true;
        KILN_RETURN_IF_ERROR(Advance());
        break;
      }
      if (!At(",")) break;
      KILN_RETURN_IF_ERROR(Advance());
    }
    --brackets_;
    KILN_RETURN_IF_ERROR(Expect(")"));
    return expr;
  }
  if (name == "null") return expr;
  if (name == "true" || name == "false") {
    expr->literal = Value(name == "true");
    return expr;
  }
  expr->kind = Expr::Kind::kVariable;
  expr->text = name;
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::Brackets(absl::string_view open) {
  const Position position = token_.position;
  if (open == "{") {
    // Newlines end the items of an object, whatever is around it.
    const int outer = std::exchange(brackets_, 0);
    auto object = Object(position);
    brackets_ = outer;
    return object;
  }
  ++brackets_;
  KILN_RETURN_IF_ERROR(Advance());
  ExprPtr expr;
  if (open == "(") {
    KILN_ASSIGN_OR_RETURN(expr, Expression());
    // Kept apart from a bare name, which as the key of an object is a word.
    if (expr->kind == Expr::Kind::kVariable) {
      ExprPtr wrapped = MakeExpr(Expr::Kind::kTemplate, position);
      wrapped->children.push_back(std::move(expr));
      expr = std::move(wrapped);
    }
    --brackets_;
    KILN_RETURN_IF_ERROR(Expect(")"));
    return expr;
  }
  const Lexer before = lexer_;
  const Token first = token_;
  if (token_.kind == Token::Kind::kIdentifier && token_.text == "for") {
    KILN_RETURN_IF_ERROR(Advance());
    if (token_.kind == Token::Kind::kIdentifier) {
      KILN_ASSIGN_OR_RETURN(expr, For(Expr::Kind::kForTuple, position));
      --brackets_;
      KILN_RETURN_IF_ERROR(Expect("]"));
      return expr;
    }
    lexer_ = before;
    token_ = first;
  }
  expr = MakeExpr(Expr::Kind::kTuple, position);
  while (!At("]")) {
    KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Expression());
    if (!At(",")) break;
    KILN_RETURN_IF_ERROR(Advance());
  }
  --brackets_;
  KILN_RETURN_IF_ERROR(Expect("]"));
  return expr;
}

// "key, value in collection", from the first name on.
absl::Status ExpressionParser::ForHead(Expr* loop) {
  for (std::string* name : {&loop->value_name, &loop->key_name}) {
    if (token_.kind != Token::Kind::kIdentifier) return Unexpected("a name");
    *name = token_.text;
    KILN_RETURN_IF_ERROR(Advance());
    if (!At(",")) break;
    if (name == &loop->key_name) return Unexpected("\"in\"");
    KILN_RETURN_IF_ERROR(Advance());
  }
  if (!loop->key_name.empty()) std::swap(loop->key_name, loop->value_name);
  if (token_.kind != Token::Kind::kIdentifier || token_.text != "in") return Unexpected("\"in\"");
  KILN_RETURN_IF_ERROR(Advance());
  KILN_ASSIGN_OR_RETURN(loop->children.emplace_back(), Expression());
  return absl::OkStatus();
}

absl::StatusOr<ExprPtr> ExpressionParser::For(Expr::Kind kind, Position position) {
  ExprPtr loop = MakeExpr(kind, std::move(position));
  KILN_RETURN_IF_ERROR(ForHead(loop.get()));
  KILN_RETURN_IF_ERROR(Expect(":"));
  KILN_ASSIGN_OR_RETURN(loop->children.emplace_back(), Expression());
  if (kind == Expr::Kind::kForObject) {
    KILN_RETURN_IF_ERROR(Expect("=>"));
    KILN_ASSIGN_OR_RETURN(loop->children.emplace_back(), Expression());
    if (At("...")) {
      loop->flag = true;
      KILN_RETURN_IF_ERROR(Advance());
    }
  }
  loop->children.emplace_back();
  if (token_.kind == Token::Kind::kIdentifier && token_.text == "if") {
    KILN_RETURN_IF_ERROR(Advance());
    KILN_ASSIGN_OR_RETURN(loop->children.back(), Expression());
  }
  return loop;
}

absl::StatusOr<ExprPtr> ExpressionParser::Object(Position position) {
  KILN_RETURN_IF_ERROR(Advance());
  const Lexer before = lexer_;
  const Token first = token_;
  if (token_.kind == Token::Kind::kIdentifier && token_.text == "for") {
    KILN_RETURN_IF_ERROR(Advance());
    if (token_.kind == Token::Kind::kIdentifier) {
      ++brackets_;
      KILN_ASSIGN_OR_RETURN(ExprPtr loop, For(Expr::Kind::kForObject, position));
      --brackets_;
      KILN_RETURN_IF_ERROR(Expect("}"));
      return loop;
    }
    lexer_ = before;
    token_ = first;
  }
  ExprPtr object = MakeExpr(Expr::Kind::kObject, std::move(position));
  while (!At("}")) {
    KILN_ASSIGN_OR_RETURN(ExprPtr key, Expression());
    if (key->kind == Expr::Kind::kVariable) {
      key->kind = Expr::Kind::kLiteral;
      key->literal = Value(key->text);
    }
    object->children.push_back(std::move(key));
    if (!At("=") && !At(":")) return Unexpected("\"=\"");
    KILN_RETURN_IF_ERROR(Advance());
    KILN_ASSIGN_OR_RETURN(object->children.emplace_back(), Expression());
    if (At(",")) {
      KILN_RETURN_IF_ERROR(Advance());
    } else if (!At("}") && !token_.after_newline) {
      return Unexpected("\",\" or a new line");
    }
  }
  KILN_RETURN_IF_ERROR(Advance());
  return object;
}

// Parts of a template up to where it, or the directive around them, ends.
struct ExpressionParser::Parts {
  bool quoted = false;
  std::vector<ExprPtr> exprs;
  std::string literal;  // the text that is being read
  bool strip_left = false;
  std::string end;  // "": end of the text; else the directive that ended it
  Position start;

  void Flush(bool strip_right, const Position& position) {
    absl::string_view text = literal;
    if (strip_left) text = StripLeft(text);
    if (strip_right) text = StripRight(text);
    if (!text.empty()) {
      exprs.push_back(MakeExpr(Expr::Kind::kLiteral, position));
      exprs.back()->literal = Value(std::string(text));
    }
    literal.clear();
    strip_left = false;
  }
};

// "%{" is read. Either a whole directive, or the end of that around: `parts->end` says which.
absl::Status ExpressionParser::Directive(Parts* parts) {
  const Position position = token_.position;
  if (token_.kind != Token::Kind::kIdentifier) return Unexpected("\"if\" or \"for\"");
  const std::string word = token_.text;
  KILN_RETURN_IF_ERROR(Advance());
  ExprPtr expr = MakeExpr(Expr::Kind::kConditional, position);
  if (word == "if") {
    KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Expression());
  } else if (word == "for") {
    expr->kind = Expr::Kind::kForTemplate;
    KILN_RETURN_IF_ERROR(ForHead(expr.get()));
  } else if (word == "else" || word == "endif" || word == "endfor") {
    parts->end = word;
  } else {
    return ErrorAt(position, absl::StrCat("unknown directive \"", word, "\""));
  }
  parts->strip_left = At("~");
  if (At("~")) KILN_RETURN_IF_ERROR(Advance());
  if (!At("}")) return Unexpected("\"}\"");  // the text goes on right behind it
  if (!parts->end.empty()) return absl::OkStatus();
  const bool loop = word == "for";
  for (bool more = true; more;) {
    Parts inner;
    inner.quoted = parts->quoted;
    inner.strip_left = parts->strip_left;
    inner.start = lexer_.position();
    KILN_RETURN_IF_ERROR(TemplateParts(&inner));
    const bool first = expr->children.size() == 1;
    more = !loop && first && inner.end == "else";
    if (!more && inner.end != (loop ? "endfor" : "endif"))
      return ErrorAt(position, absl::StrCat("%{", word, "} is not ended"));
    parts->strip_left = inner.strip_left;
    KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Join(&inner, inner.start));
  }
  if (!loop && expr->children.size() == 2) {
    expr->children.push_back(MakeExpr(Expr::Kind::kLiteral, position));
    expr->children.back()->literal = Value("");
  }
  parts->exprs.push_back(std::move(expr));
  return absl::OkStatus();
}

absl::Status ExpressionParser::TemplateParts(Parts* parts) {
  const Nesting nesting(&depth_);
  KILN_RETURN_IF_ERROR(nesting.Check(lexer_.position()));
  ++brackets_;
  while (true) {
    const Position position = lexer_.position();
    const absl::string_view text = lexer_.rest();
    if (text.empty()) {
      if (parts->quoted) return ErrorAt(parts->start, "this string has no end");
      break;
    }
    if (parts->quoted && text[0] == '"') {
      lexer_.Skip(1);
      break;
    }
    if (parts->quoted && text[0] == '\n') return ErrorAt(position, "a string ends on its line");
    if (parts->quoted && text[0] == '\\') {
      KILN_RETURN_IF_ERROR(AppendEscape(&lexer_, /*json=*/false, &parts->literal));
      continue;
    }
    if (absl::StartsWith(text, "$${") || absl::StartsWith(text, "%%{")) {
      parts->literal.append(text.data() + 1, 2);
      lexer_.Skip(3);
      continue;
    }
    const bool interpolation = absl::StartsWith(text, "${");
    if (!interpolation && !absl::StartsWith(text, "%{")) {
      parts->literal.push_back(text[0]);
      lexer_.Skip(1);
      continue;
    }
    const bool strip = text.size() > 2 && text[2] == '~';
    lexer_.Skip(strip ? 3 : 2);
    parts->Flush(strip, position);
    KILN_RETURN_IF_ERROR(Advance());
    if (!interpolation) {
      KILN_RETURN_IF_ERROR(Directive(parts));
      if (!parts->end.empty()) {
        --brackets_;
        return absl::OkStatus();
      }
      continue;
    }
    KILN_ASSIGN_OR_RETURN(parts->exprs.emplace_back(), Expression());
    parts->strip_left = At("~");
    if (At("~")) KILN_RETURN_IF_ERROR(Advance());
    if (!At("}")) return Unexpected("\"}\"");
  }
  --brackets_;
  parts->Flush(false, lexer_.position());
  return absl::OkStatus();
}

absl::StatusOr<ExprPtr> ExpressionParser::Join(Parts* parts, Position position) {
  ExprPtr expr = MakeExpr(Expr::Kind::kTemplate, std::move(position));
  if (parts->exprs.empty()) {
    expr->kind = Expr::Kind::kLiteral;
    expr->literal = Value("");
    return expr;
  }
  if (parts->exprs.size() == 1 && parts->exprs[0]->kind == Expr::Kind::kLiteral &&
      parts->exprs[0]->literal.is_string())
    return std::move(parts->exprs[0]);
  expr->children = std::move(parts->exprs);
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::Quoted() {
  Parts parts;
  parts.quoted = true;
  parts.start = token_.position;
  KILN_RETURN_IF_ERROR(TemplateParts(&parts));
  if (!parts.end.empty())
    return ErrorAt(parts.start, absl::StrCat("%{", parts.end, "} without its beginning"));
  KILN_RETURN_IF_ERROR(Advance());
  return Join(&parts, parts.start);
}

absl::StatusOr<std::string> ExpressionParser::PlainString() {
  const Position position = token_.position;
  KILN_ASSIGN_OR_RETURN(const ExprPtr expr, Quoted());
  if (expr->kind != Expr::Kind::kLiteral) return ErrorAt(position, "no template may stand here");
  return expr->literal.string();
}

absl::StatusOr<ExprPtr> ExpressionParser::HeredocText() {
  Position start = token_.position;
  ++start.line;
  start.column = 1;
  KILN_ASSIGN_OR_RETURN(const std::string text, ReadHeredoc(&lexer_, token_));
  KILN_RETURN_IF_ERROR(Advance());
  return Template(text, std::move(start), depth_);
}

absl::StatusOr<ExprPtr> ExpressionParser::Template(absl::string_view text, Position start,
                                                   int depth) {
  ExpressionParser parser(text, start);
  parser.depth_ = depth;
  Parts parts;
  parts.start = start;
  KILN_RETURN_IF_ERROR(parser.TemplateParts(&parts));
  if (!parts.end.empty())
    return ErrorAt(start, absl::StrCat("%{", parts.end, "} without its beginning"));
  return parser.Join(&parts, std::move(start));
}

}  // namespace kiln::client::hcl
