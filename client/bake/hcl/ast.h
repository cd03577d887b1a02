#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/bake/hcl/value.h"

namespace kiln::client::hcl {

// Where something is written; lines and columns (bytes) from 1.
struct Position {
  std::shared_ptr<const std::string> file;
  int line = 1;
  int column = 1;

  std::string ToString() const {
    return absl::StrCat(file == nullptr ? "" : *file, ":", line, ":", column);
  }
};

// kInvalidArgument "FILE:LINE:COLUMN: text".
inline absl::Status ErrorAt(const Position& position, absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(position.ToString(), ": ", text));
}

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

// One node of an expression. The comment at a kind says what `children` and `text` hold.
struct Expr {
  Expr() = default;
  // Takes the tree down without recursion: chains of operators are deep.
  ~Expr() {
    std::vector<ExprPtr> pending = std::move(children);
    while (!pending.empty()) {
      const ExprPtr expr = std::move(pending.back());
      pending.pop_back();
      if (expr == nullptr) continue;
      for (ExprPtr& child : expr->children) pending.push_back(std::move(child));
      expr->children.clear();
    }
  }

  enum class Kind {
    kLiteral,      // literal
    kTemplate,     // parts, joined; a single part that is no literal keeps its type
    kVariable,     // text: name
    kAttribute,    // base; text: name
    kIndex,        // base, key
    kSplat,        // base, expression on each item (kSplatItem is the item)
    kSplatItem,    //
    kCall,         // arguments; text: function; flag: the last one is spread
    kUnary,        // operand; text: "-" or "!"
    kBinary,       // left, right; text: operator
    kConditional,  // condition, then, else
    kTuple,        // items
    kObject,       // key, value, key, value, …
    kForTuple,     // collection, value, condition or null
    kForObject,    // collection, key, value, condition or null; flag: values are grouped
    kForTemplate,  // collection, body
  };
  Kind kind = Kind::kLiteral;
  Position position;
  Value literal;
  std::string text;
  std::string key_name, value_name;  // variables of for; key_name "": none
  bool flag = false;
  std::vector<ExprPtr> children;
};

struct Attribute {
  std::string name;
  Position position;
  ExprPtr value;
};

struct Block;

// The contents of a file or block, in order.
struct Body {
  std::vector<Attribute> attributes;
  std::vector<Block> blocks;
};

struct Block {
  std::string type;
  std::vector<std::string> labels;
  Position position;
  Body body;
};

}  // namespace kiln::client::hcl
