#include "client/bake/hcl/parser.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/bake/hcl/expression_parser.h"
#include "client/bake/hcl/template_text.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

Position Start(const std::string& file) {
  Position start;
  start.file = std::make_shared<const std::string>(file);
  return start;
}

class HclParser {
 public:
  HclParser(absl::string_view text, const std::string& file) : parser_(text, Start(file)) {}

  absl::StatusOr<Body> File() {
    KILN_RETURN_IF_ERROR(parser_.Advance());
    KILN_ASSIGN_OR_RETURN(Body body, Contents(0));
    if (parser_.token().kind != Token::Kind::kEnd) return parser_.Unexpected("a name");
    return body;
  }

 private:
  absl::StatusOr<Body> Contents(int depth) {
    if (depth > ExpressionParser::kMaxDepth)
      return ErrorAt(parser_.token().position, "blocks are nested too deeply");
    Body body;
    while (parser_.token().kind == Token::Kind::kIdentifier) {
      const Position position = parser_.token().position;
      const std::string name = parser_.token().text;
      KILN_RETURN_IF_ERROR(parser_.Advance());
      if (parser_.At("=")) {
        KILN_RETURN_IF_ERROR(parser_.Advance());
        for (const Attribute& other : body.attributes)
          if (other.name == name)
            return ErrorAt(position, absl::StrCat("\"", name, "\" is set already at ",
                                                  other.position.ToString()));
        KILN_ASSIGN_OR_RETURN(ExprPtr value, parser_.Expression());
        body.attributes.push_back({name, position, std::move(value)});
      } else {
        KILN_ASSIGN_OR_RETURN(Block block, OneBlock(name, position, depth));
        body.blocks.push_back(std::move(block));
      }
      const Token& next = parser_.token();
      if (next.kind != Token::Kind::kEnd && !next.after_newline && !parser_.At("}"))
        return parser_.Unexpected("a new line");
    }
    return body;
  }

  absl::StatusOr<Block> OneBlock(const std::string& type, const Position& position, int depth) {
    Block block{type, {}, position, {}};
    while (!parser_.At("{")) {
      if (parser_.token().kind == Token::Kind::kIdentifier) {
        block.labels.push_back(parser_.token().text);
        KILN_RETURN_IF_ERROR(parser_.Advance());
      } else if (parser_.token().kind == Token::Kind::kQuote) {
        KILN_ASSIGN_OR_RETURN(block.labels.emplace_back(), parser_.PlainString());
      } else {
        return parser_.Unexpected("\"=\" or \"{\"");
      }
    }
    if (parser_.token().after_newline)
      return ErrorAt(parser_.token().position,
                     "\"{\" has to stand on the line of its block's name");
    KILN_RETURN_IF_ERROR(parser_.Advance());
    const bool empty = parser_.At("}"), one_line = !empty && !parser_.token().after_newline;
    KILN_ASSIGN_OR_RETURN(block.body, Contents(depth + 1));
    if (!empty && parser_.At("}") && parser_.token().after_newline == one_line)
      return ErrorAt(parser_.token().position,
                     one_line ? "a block that begins with an argument on its first line ends there"
                              : "a new line is expected before \"}\"");
    if (one_line && (block.body.attributes.size() != 1 || !block.body.blocks.empty()))
      return ErrorAt(position, "a block on one line has one argument and no block");
    KILN_RETURN_IF_ERROR(parser_.Expect("}"));
    return block;
  }

  ExpressionParser parser_;
};

// JSON as expressions: the tokens are HCL's, the strings are read here.
class JsonParser {
 public:
  JsonParser(absl::string_view text, const std::string& file) : lexer_(text, Start(file)) {}

  absl::StatusOr<ExprPtr> File() {
    KILN_RETURN_IF_ERROR(lexer_.Next(&token_));
    KILN_ASSIGN_OR_RETURN(ExprPtr value, JsonValue(0));
    if (token_.kind != Token::Kind::kEnd) return Unexpected("the end of the file");
    return value;
  }

 private:
  bool At(absl::string_view symbol) const {
    return token_.kind == Token::Kind::kSymbol && token_.text == symbol;
  }
  absl::Status Unexpected(absl::string_view wanted) const {
    return ErrorAt(token_.position, absl::StrCat(wanted, " is expected here"));
  }

  absl::StatusOr<ExprPtr> JsonValue(int depth) {
    if (depth > ExpressionParser::kMaxDepth)
      return ErrorAt(token_.position, "this is nested too deeply");
    ExprPtr expr = MakeExpr(Expr::Kind::kLiteral, token_.position);
    if (token_.kind == Token::Kind::kQuote) return Text(depth);
    if (At("{") || At("[")) return Members(depth);
    const bool negative = At("-");
    if (negative) KILN_RETURN_IF_ERROR(lexer_.Next(&token_));
    if (token_.kind == Token::Kind::kNumber) {
      expr->literal = Value(negative ? -token_.number : token_.number);
    } else if (!negative && token_.kind == Token::Kind::kIdentifier &&
               (token_.text == "true" || token_.text == "false")) {
      expr->literal = Value(token_.text == "true");
    } else if (negative || token_.kind != Token::Kind::kIdentifier || token_.text != "null") {
      return Unexpected("a JSON value");
    }
    KILN_RETURN_IF_ERROR(lexer_.Next(&token_));
    return expr;
  }

  absl::StatusOr<ExprPtr> Members(int depth) {
    const bool object = At("{");
    const absl::string_view close = object ? "}" : "]";
    ExprPtr expr = MakeExpr(object ? Expr::Kind::kObject : Expr::Kind::kTuple, token_.position);
    KILN_RETURN_IF_ERROR(lexer_.Next(&token_));
    while (!At(close)) {
      if (object) {
        if (token_.kind != Token::Kind::kQuote) return Unexpected("a string");
        KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), Text(depth));
        if (!At(":")) return Unexpected("\":\"");
        KILN_RETURN_IF_ERROR(lexer_.Next(&token_));
      }
      KILN_ASSIGN_OR_RETURN(expr->children.emplace_back(), JsonValue(depth + 1));
      if (!At(",") && !At(close)) return Unexpected(absl::StrCat("\",\" or \"", close, "\""));
      if (!At(",")) continue;
      KILN_RETURN_IF_ERROR(lexer_.Next(&token_));
      if (At(close)) return Unexpected("a value");
    }
    KILN_RETURN_IF_ERROR(lexer_.Next(&token_));
    return expr;
  }

  absl::StatusOr<ExprPtr> Text(int depth) {
    Position start = token_.position;
    ++start.column;
    std::string text;
    while (true) {
      const absl::string_view rest = lexer_.rest();
      if (rest.empty() || rest[0] == '\n') return ErrorAt(start, "this string has no end");
      if (rest[0] == '\\') {
        KILN_RETURN_IF_ERROR(AppendEscape(&lexer_, /*json=*/true, &text));
        continue;
      }
      lexer_.Skip(1);
      if (rest[0] == '"') break;
      text.push_back(rest[0]);
    }
    KILN_RETURN_IF_ERROR(lexer_.Next(&token_));
    return ExpressionParser::Template(text, std::move(start), depth);
  }

  Lexer lexer_;
  Token token_;
};

absl::StatusOr<Body> MembersAsBody(Expr* object) {
  if (object->kind != Expr::Kind::kObject)
    return ErrorAt(object->position, "an object is expected");
  Body body;
  for (size_t i = 0; i + 1 < object->children.size(); i += 2) {
    const Expr& key = *object->children[i];
    if (key.kind != Expr::Kind::kLiteral) return ErrorAt(key.position, "a name is expected");
    body.attributes.push_back(
        {key.literal.string(), key.position, std::move(object->children[i + 1])});
  }
  return body;
}

}  // namespace

absl::StatusOr<Body> ParseHcl(absl::string_view text, const std::string& file) {
  return HclParser(text, file).File();
}

absl::StatusOr<Body> ParseJson(absl::string_view text, const std::string& file) {
  KILN_ASSIGN_OR_RETURN(const ExprPtr root, JsonParser(text, file).File());
  return MembersAsBody(root.get());
}

absl::StatusOr<std::vector<Block>> JsonBlocks(Attribute attribute, bool labelled) {
  std::vector<ExprPtr> objects;
  if (attribute.value->kind == Expr::Kind::kTuple) {
    objects = std::move(attribute.value->children);
  } else {
    objects.push_back(std::move(attribute.value));
  }
  std::vector<Block> blocks;
  for (const ExprPtr& object : objects) {
    KILN_ASSIGN_OR_RETURN(Body body, MembersAsBody(object.get()));
    if (!labelled) {
      blocks.push_back({attribute.name, {}, object->position, std::move(body)});
      continue;
    }
    for (Attribute& member : body.attributes) {
      // Several blocks of one label are written as a list.
      std::vector<ExprPtr> bodies;
      if (member.value->kind == Expr::Kind::kTuple) {
        bodies = std::move(member.value->children);
      } else {
        bodies.push_back(std::move(member.value));
      }
      for (const ExprPtr& one : bodies) {
        KILN_ASSIGN_OR_RETURN(Body inner, MembersAsBody(one.get()));
        blocks.push_back({attribute.name, {member.name}, member.position, std::move(inner)});
      }
    }
  }
  return blocks;
}

std::string AsKeyword(const Expr& expr) {
  if (expr.kind == Expr::Kind::kVariable) return expr.text;
  if (expr.kind == Expr::Kind::kLiteral && expr.literal.is_string()) return expr.literal.string();
  return "";
}

}  // namespace kiln::client::hcl
