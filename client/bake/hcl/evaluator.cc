#include "client/bake/hcl/evaluator.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/bake/hcl/functions.h"
#include "client/bake/hcl/type.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

constexpr int kMaxDepth = 500;
constexpr size_t kMaxSteps = 2'000'000;
constexpr size_t kMaxBytes = 64 << 20;

// Puts the place before an error that has none yet.
template <typename T>
absl::StatusOr<T> At(const Expr& expr, absl::StatusOr<T> result) {
  if (result.ok()) return result;
  return absl::Status(result.status().code(),
                      absl::StrCat(expr.position.ToString(), ": ", result.status().message()));
}

// The bytes that a new value takes, its items not counted again.
size_t Size(const Value& value) {
  constexpr size_t kMemberBytes = 64;  // of a tree, beside key and value
  if (value.is_string()) return value.string().size();
  if (value.is_list()) return value.list().size() * sizeof(Value);
  if (value.is_object()) return value.object().size() * (sizeof(Value) + kMemberBytes);
  return 0;
}

absl::StatusOr<Value> Item(const Value& base, const Value& key) {
  if (base.is_object()) {
    KILN_ASSIGN_OR_RETURN(const std::string name, key.ToString());
    const auto found = base.object().find(name);
    if (found != base.object().end()) return found->second;
    return absl::InvalidArgumentError(absl::StrCat("there is no \"", name, "\" in this object"));
  }
  if (!base.is_list())
    return absl::InvalidArgumentError(absl::StrCat("a ", base.kind(), " has no items"));
  KILN_ASSIGN_OR_RETURN(const double index, key.ToNumber());
  if (index != std::floor(index) || index < 0 || index >= static_cast<double>(base.list().size()))
    return absl::InvalidArgumentError(
        absl::StrCat("index ", FormatNumber(index), " is not in a list of ", base.list().size()));
  return base.list()[static_cast<size_t>(index)];
}

}  // namespace

// A level of nesting while it lives.
class Evaluator::Level {
 public:
  explicit Level(int* depth) : depth_(depth) { ++*depth_; }
  ~Level() { --*depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int* const depth_;
};

absl::Status Evaluator::Spend(const Expr& expr, size_t bytes) {
  ++steps_;
  bytes_ += bytes;
  if (steps_ <= kMaxSteps && bytes_ <= kMaxBytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(expr.position.ToString(), ": the files need too much work to evaluate"));
}

absl::StatusOr<Value> Evaluator::Evaluate(const Expr& expr, const Locals* locals) {
  const Level level(&depth_);
  if (depth_ > kMaxDepth)
    return absl::ResourceExhaustedError(
        absl::StrCat(expr.position.ToString(), ": this is nested too deeply to evaluate"));
  KILN_ASSIGN_OR_RETURN(Value value, Dispatch(expr, locals));
  // Variables and literals share what is there already.
  const bool shared = expr.kind == Expr::Kind::kVariable || expr.kind == Expr::Kind::kLiteral;
  KILN_RETURN_IF_ERROR(Spend(expr, shared ? 0 : Size(value)));
  return value;
}

absl::StatusOr<Value> Evaluator::Dispatch(const Expr& expr, const Locals* locals) {
  switch (expr.kind) {
    case Expr::Kind::kLiteral:
      return expr.literal;
    case Expr::Kind::kTemplate:
      return Template(expr, locals);
    case Expr::Kind::kVariable:
      return Variable(expr, locals);
    case Expr::Kind::kAttribute:
      return Attribute(expr, locals);
    case Expr::Kind::kIndex:
      return Index(expr, locals);
    case Expr::Kind::kSplat:
      return Splat(expr, locals);
    case Expr::Kind::kSplatItem:
      for (; locals != nullptr; locals = locals->outer)
        if (locals->splat_item != nullptr) return *locals->splat_item;
      return ErrorAt(expr.position, "a splat without a list");
    case Expr::Kind::kCall:
      return Call(expr, locals);
    case Expr::Kind::kUnary:
      return Unary(expr, locals);
    case Expr::Kind::kBinary:
      return Binary(expr, locals);
    case Expr::Kind::kConditional:
      return Conditional(expr, locals);
    case Expr::Kind::kTuple: {
      Value::List list;
      for (const ExprPtr& child : expr.children) {
        KILN_ASSIGN_OR_RETURN(list.emplace_back(), Evaluate(*child, locals));
      }
      return Value(std::move(list));
    }
    case Expr::Kind::kObject:
      return Object(expr, locals);
    case Expr::Kind::kForTuple:
    case Expr::Kind::kForObject:
    case Expr::Kind::kForTemplate:
      return Loop(expr, locals);
  }
  return ErrorAt(expr.position, "unknown expression");
}

absl::StatusOr<Value> Evaluator::Template(const Expr& expr, const Locals* locals) {
  if (expr.children.size() == 1 && expr.children[0]->kind != Expr::Kind::kLiteral)
    return Evaluate(*expr.children[0], locals);
  std::string text;
  for (const ExprPtr& child : expr.children) {
    KILN_ASSIGN_OR_RETURN(const Value part, Evaluate(*child, locals));
    if (part.is_null()) return ErrorAt(child->position, "null can't be part of a string");
    KILN_ASSIGN_OR_RETURN(const std::string piece, At(*child, part.ToString()));
    KILN_RETURN_IF_ERROR(Spend(*child, piece.size()));
    text += piece;
  }
  return Value(std::move(text));
}

absl::StatusOr<Value> Evaluator::Variable(const Expr& expr, const Locals* locals) {
  for (; locals != nullptr; locals = locals->outer) {
    const auto found = locals->values.find(expr.text);
    if (found != locals->values.end()) return found->second;
  }
  if (scope_->IsBlockType(expr.text))
    return ErrorAt(expr.position, absl::StrCat("cannot access ", expr.text, " as a variable"));
  absl::StatusOr<Value> value = scope_->Variable(expr.text);
  if (absl::IsNotFound(value.status()))
    return ErrorAt(expr.position, absl::StrCat("there is no variable \"", expr.text, "\""));
  return value;
}

absl::StatusOr<Value> Evaluator::Attribute(const Expr& expr, const Locals* locals) {
  const Expr& base = *expr.children[0];
  // target.NAME and target.NAME.ATTRIBUTE are worked out alone: they may refer to each other.
  if (base.kind == Expr::Kind::kVariable && scope_->IsBlockType(base.text))
    return At(expr, scope_->WholeBlock(base.text, expr.text));
  if (base.kind == Expr::Kind::kAttribute) {
    const Expr& root = *base.children[0];
    if (root.kind == Expr::Kind::kVariable && scope_->IsBlockType(root.text))
      return At(expr, scope_->BlockAttribute(root.text, base.text, expr.text));
  }
  KILN_ASSIGN_OR_RETURN(const Value value, Evaluate(base, locals));
  if (!value.is_object())
    return ErrorAt(expr.position,
                   absl::StrCat("a ", value.kind(), " has no attribute \"", expr.text, "\""));
  return At(expr, Item(value, Value(expr.text)));
}

absl::StatusOr<Value> Evaluator::Index(const Expr& expr, const Locals* locals) {
  KILN_ASSIGN_OR_RETURN(const Value key, Evaluate(*expr.children[1], locals));
  const Expr& base = *expr.children[0];
  if (base.kind == Expr::Kind::kVariable && scope_->IsBlockType(base.text)) {
    KILN_ASSIGN_OR_RETURN(const std::string name, At(expr, key.ToString()));
    return At(expr, scope_->WholeBlock(base.text, name));
  }
  KILN_ASSIGN_OR_RETURN(const Value value, Evaluate(base, locals));
  return At(expr, Item(value, key));
}

absl::StatusOr<Value> Evaluator::Splat(const Expr& expr, const Locals* locals) {
  KILN_ASSIGN_OR_RETURN(const Value base, Evaluate(*expr.children[0], locals));
  Value::List items;
  if (base.is_list()) {
    items = base.list();
  } else if (!base.is_null()) {
    items.push_back(base);
  }
  Value::List results;
  for (const Value& item : items) {
    Locals inner;
    inner.outer = locals;
    inner.splat_item = &item;
    KILN_ASSIGN_OR_RETURN(results.emplace_back(), Evaluate(*expr.children[1], &inner));
  }
  return Value(std::move(results));
}

absl::StatusOr<Value> Evaluator::Unary(const Expr& expr, const Locals* locals) {
  KILN_ASSIGN_OR_RETURN(const Value operand, Evaluate(*expr.children[0], locals));
  if (expr.text == "!") {
    KILN_ASSIGN_OR_RETURN(const bool value, At(expr, operand.ToBool()));
    return Value(!value);
  }
  KILN_ASSIGN_OR_RETURN(const double value, At(expr, operand.ToNumber()));
  return Value(-value);
}

absl::StatusOr<Value> Evaluator::Binary(const Expr& expr, const Locals* locals) {
  const std::string& op = expr.text;
  KILN_ASSIGN_OR_RETURN(const Value left, Evaluate(*expr.children[0], locals));
  if (op == "&&" || op == "||") {
    KILN_ASSIGN_OR_RETURN(const bool first, At(expr, left.ToBool()));
    if (first == (op == "||")) return Value(first);
    KILN_ASSIGN_OR_RETURN(const Value right, Evaluate(*expr.children[1], locals));
    KILN_ASSIGN_OR_RETURN(const bool second, At(expr, right.ToBool()));
    return Value(second);
  }
  KILN_ASSIGN_OR_RETURN(const Value right, Evaluate(*expr.children[1], locals));
  if (op == "==") return Value(left == right);
  if (op == "!=") return Value(left != right);
  KILN_ASSIGN_OR_RETURN(const double a, At(expr, left.ToNumber()));
  KILN_ASSIGN_OR_RETURN(const double b, At(expr, right.ToNumber()));
  if (op == "<") return Value(a < b);
  if (op == "<=") return Value(a <= b);
  if (op == ">") return Value(a > b);
  if (op == ">=") return Value(a >= b);
  if ((op == "/" || op == "%") && b == 0) return ErrorAt(expr.position, "division by zero");
  const double result = op == "+"   ? a + b
                        : op == "-" ? a - b
                        : op == "*" ? a * b
                        : op == "/" ? a / b
                                    : std::fmod(a, b);
  if (!std::isfinite(result)) return ErrorAt(expr.position, "the number is too large");
  return Value(result);
}

absl::StatusOr<Value> Evaluator::Conditional(const Expr& expr, const Locals* locals) {
  KILN_ASSIGN_OR_RETURN(const Value condition, Evaluate(*expr.children[0], locals));
  if (condition.is_null()) return ErrorAt(expr.position, "the condition is null");
  KILN_ASSIGN_OR_RETURN(const bool holds, At(expr, condition.ToBool()));
  return Evaluate(*expr.children[holds ? 1 : 2], locals);
}

absl::StatusOr<Value> Evaluator::Object(const Expr& expr, const Locals* locals) {
  Value::Object object;
  for (size_t i = 0; i + 1 < expr.children.size(); i += 2) {
    KILN_ASSIGN_OR_RETURN(const Value key, Evaluate(*expr.children[i], locals));
    KILN_ASSIGN_OR_RETURN(std::string name, At(*expr.children[i], key.ToString()));
    KILN_ASSIGN_OR_RETURN(object[std::move(name)], Evaluate(*expr.children[i + 1], locals));
  }
  return Value(std::move(object));
}

absl::StatusOr<Value> Evaluator::Loop(const Expr& expr, const Locals* locals) {
  KILN_ASSIGN_OR_RETURN(const Value collection, Evaluate(*expr.children[0], locals));
  if (!collection.is_list() && !collection.is_object())
    return ErrorAt(expr.position, absl::StrCat("for can't iterate over ", collection.kind()));
  Value::List list;
  Value::Object object;
  std::map<std::string, Value::List> groups;
  std::string text;
  const auto visit = [&](Value key, const Value& value) -> absl::Status {
    Locals inner;
    inner.outer = locals;
    if (!expr.key_name.empty()) inner.values[expr.key_name] = std::move(key);
    inner.values[expr.value_name] = value;
    const bool is_template = expr.kind == Expr::Kind::kForTemplate;
    const Expr* condition = is_template ? nullptr : expr.children.back().get();
    if (condition != nullptr) {
      KILN_ASSIGN_OR_RETURN(const Value wanted, Evaluate(*condition, &inner));
      KILN_ASSIGN_OR_RETURN(const bool include, At(*condition, wanted.ToBool()));
      if (!include) return absl::OkStatus();
    }
    KILN_ASSIGN_OR_RETURN(Value first, Evaluate(*expr.children[1], &inner));
    if (expr.kind == Expr::Kind::kForTuple) {
      list.push_back(std::move(first));
      return absl::OkStatus();
    }
    KILN_ASSIGN_OR_RETURN(std::string name, At(*expr.children[1], first.ToString()));
    if (is_template) {
      text += name;
      return absl::OkStatus();
    }
    KILN_ASSIGN_OR_RETURN(Value second, Evaluate(*expr.children[2], &inner));
    if (expr.flag) {
      groups[name].push_back(std::move(second));
    } else if (!object.emplace(name, std::move(second)).second) {
      return ErrorAt(expr.position, absl::StrCat("two items have the key \"", name, "\""));
    }
    return absl::OkStatus();
  };
  if (collection.is_list()) {
    double index = 0;
    for (const Value& item : collection.list()) KILN_RETURN_IF_ERROR(visit(Value(index++), item));
  } else {
    for (const auto& [key, item] : collection.object())
      KILN_RETURN_IF_ERROR(visit(Value(key), item));
  }
  if (expr.kind == Expr::Kind::kForTuple) return Value(std::move(list));
  if (expr.kind == Expr::Kind::kForTemplate) return Value(std::move(text));
  for (auto& [key, items] : groups) object[key] = Value(std::move(items));
  return Value(std::move(object));
}

absl::StatusOr<Value> Evaluator::Try(const Expr& expr, const Locals* locals) {
  absl::Status last = ErrorAt(expr.position, "try needs an argument");
  for (const ExprPtr& child : expr.children) {
    absl::StatusOr<Value> value = Evaluate(*child, locals);
    if (value.ok() || absl::IsResourceExhausted(value.status())) return value;
    last = value.status();
  }
  return last;
}

absl::StatusOr<Value> Evaluator::Can(const Expr& expr, const Locals* locals) {
  if (expr.children.size() != 1) return ErrorAt(expr.position, "can needs one argument");
  const absl::StatusOr<Value> value = Evaluate(*expr.children[0], locals);
  if (absl::IsResourceExhausted(value.status())) return value;
  return Value(value.ok());
}

absl::StatusOr<Value> Evaluator::Call(const Expr& expr, const Locals* locals) {
  const UserFunction* user = scope_->Function(expr.text);
  if (user == nullptr && expr.text == "try") return Try(expr, locals);
  if (user == nullptr && expr.text == "can") return Can(expr, locals);
  if (user == nullptr && expr.text == "convert") {
    if (expr.children.size() != 2)
      return ErrorAt(expr.position, "convert needs a value and a type");
    KILN_ASSIGN_OR_RETURN(const Value value, Evaluate(*expr.children[0], locals));
    KILN_ASSIGN_OR_RETURN(const Type type, ParseType(*expr.children[1]));
    return At(expr, Convert(value, type));
  }
  Value::List arguments;
  for (const ExprPtr& child : expr.children) {
    KILN_ASSIGN_OR_RETURN(arguments.emplace_back(), Evaluate(*child, locals));
  }
  if (expr.flag) {
    const Value last = std::move(arguments.back());
    arguments.pop_back();
    if (!last.is_list()) return ErrorAt(expr.position, "only a list can be spread with ...");
    arguments.insert(arguments.end(), last.list().begin(), last.list().end());
  }
  if (user != nullptr) return CallUser(expr, *user, std::move(arguments));
  // What a function makes is never more than some times what it takes, `range` and `format`
  // excepted, which have limits of their own; counted before, so that copies cost.
  for (const Value& argument : arguments) KILN_RETURN_IF_ERROR(Spend(expr, Size(argument)));
  return At(expr, CallLibrary(expr.text, arguments));
}

absl::StatusOr<Value> Evaluator::CallUser(const Expr& expr, const UserFunction& function,
                                          Value::List arguments) {
  if (std::find(running_.begin(), running_.end(), &function) != running_.end())
    return ErrorAt(expr.position, absl::StrCat("function cycle not allowed for ", expr.text));
  const size_t count = function.parameters.size();
  if (arguments.size() < count || (arguments.size() > count && function.variadic.empty()))
    return ErrorAt(expr.position, absl::StrCat("function ", expr.text, " takes ", count,
                                               function.variadic.empty() ? "" : " or more",
                                               " arguments, not ", arguments.size()));
  Locals parameters;
  for (size_t i = 0; i < count; ++i) parameters.values[function.parameters[i]] = arguments[i];
  if (!function.variadic.empty())
    parameters.values[function.variadic] =
        Value(Value::List(arguments.begin() + static_cast<std::ptrdiff_t>(count), arguments.end()));
  running_.push_back(&function);
  absl::StatusOr<Value> result = Evaluate(*function.result, &parameters);
  running_.pop_back();
  return result;
}

}  // namespace kiln::client::hcl
