#include "client/bake/hcl/type.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/bake/hcl/parser.h"
#include "client/csv.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

constexpr std::pair<absl::string_view, Type::Kind> kNames[] = {
    {"any", Type::Kind::kAny},   {"string", Type::Kind::kString}, {"number", Type::Kind::kNumber},
    {"bool", Type::Kind::kBool}, {"list", Type::Kind::kList},     {"set", Type::Kind::kSet},
    {"map", Type::Kind::kMap},   {"tuple", Type::Kind::kTuple},   {"object", Type::Kind::kObject}};

absl::StatusOr<Type> ParseObjectType(const Expr& members) {
  Type type;
  type.kind = Type::Kind::kObject;
  if (members.kind != Expr::Kind::kObject)
    return ErrorAt(members.position, "object needs {NAME = TYPE, …}");
  for (size_t i = 0; i + 1 < members.children.size(); i += 2) {
    const Expr* value = members.children[i + 1].get();
    const std::string name = AsKeyword(*members.children[i]);
    const bool optional = value->kind == Expr::Kind::kCall && value->text == "optional";
    if (optional && (value->children.empty() || value->children.size() > 2))
      return ErrorAt(value->position, "optional needs a type, and at most a default");
    KILN_ASSIGN_OR_RETURN(Type member, ParseType(optional ? *value->children[0] : *value));
    member.optional = optional;
    if (optional && value->children.size() == 2) {
      if (value->children[1]->kind != Expr::Kind::kLiteral)
        return ErrorAt(value->position, "the default of an optional attribute must be a constant");
      member.fallback = value->children[1]->literal;
    }
    type.attributes[name] = std::move(member);
  }
  return type;
}

absl::StatusOr<Value> ConvertItems(const Value& value, const Type& type) {
  if (!value.is_list())
    return absl::InvalidArgumentError(
        absl::StrCat(type.name(), " is required, not ", value.kind()));
  if (type.kind == Type::Kind::kTuple && value.list().size() != type.items.size())
    return absl::InvalidArgumentError(
        absl::StrCat("tuple has ", type.items.size(), " items, not ", value.list().size()));
  Value::List items;
  for (size_t i = 0; i < value.list().size(); ++i) {
    const Type& want = type.kind == Type::Kind::kTuple ? type.items[i] : type.items[0];
    KILN_ASSIGN_OR_RETURN(Value item, Convert(value.list()[i], want));
    const bool twice =
        type.kind == Type::Kind::kSet && std::find(items.begin(), items.end(), item) != items.end();
    if (!twice) items.push_back(std::move(item));
  }
  return Value(std::move(items));
}

absl::StatusOr<Value> ConvertMembers(const Value& value, const Type& type) {
  if (!value.is_object())
    return absl::InvalidArgumentError(
        absl::StrCat(type.name(), " is required, not ", value.kind()));
  Value::Object members;
  if (type.kind == Type::Kind::kMap) {
    for (const auto& [key, item] : value.object()) {
      KILN_ASSIGN_OR_RETURN(members[key], Convert(item, type.items[0]));
    }
    return Value(std::move(members));
  }
  for (const auto& [key, want] : type.attributes) {
    const auto found = value.object().find(key);
    const bool there = found != value.object().end() && !found->second.is_null();
    if (found == value.object().end() && !want.optional)
      return absl::InvalidArgumentError(absl::StrCat("attribute \"", key, "\" is required"));
    KILN_ASSIGN_OR_RETURN(members[key],
                          Annotate(Convert(there ? found->second : want.fallback, want), key));
  }
  return Value(std::move(members));
}

absl::StatusOr<bool> ParseGoBool(const std::string& text) {
  for (const char* yes : {"1", "t", "T", "TRUE", "true", "True"})
    if (text == yes) return true;
  for (const char* no : {"0", "f", "F", "FALSE", "false", "False"})
    if (text == no) return false;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no bool"));
}

absl::StatusOr<Value> FromText(const std::string& name, const std::string& text, const Type& type) {
  if (type.kind == Type::Kind::kString || type.kind == Type::Kind::kAny) return Value(text);
  if (type.kind == Type::Kind::kBool) {
    KILN_ASSIGN_OR_RETURN(
        const bool value,
        Annotate(ParseGoBool(text), absl::StrCat("failed to parse ", name, " as bool")));
    return Value(value);
  }
  if (type.kind == Type::Kind::kNumber) {
    KILN_ASSIGN_OR_RETURN(
        const double value,
        Annotate(ParseNumber(text), absl::StrCat("failed to parse ", name, " as number")));
    return Value(value);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unsupported type ", type.name(), " for variable ", name));
}

}  // namespace

std::string Type::name() const {
  std::string word = "any";
  for (const auto& [text, known] : kNames)
    if (known == kind) word = std::string(text);
  if (kind >= Kind::kList && kind <= Kind::kMap) return absl::StrCat(word, " of ", items[0].name());
  return word;
}

absl::StatusOr<Type> ParseType(const Expr& expr) {
  const std::string word = expr.kind == Expr::Kind::kCall ? expr.text : AsKeyword(expr);
  Type type;
  const auto known = std::find_if(std::begin(kNames), std::end(kNames),
                                  [&](const auto& entry) { return entry.first == word; });
  if (known == std::end(kNames))
    return ErrorAt(expr.position, absl::StrCat("\"", word, "\" is no type"));
  type.kind = known->second;
  const bool simple = type.kind <= Type::Kind::kBool;
  if (simple != (expr.kind != Expr::Kind::kCall) || (!simple && expr.children.size() != 1))
    return ErrorAt(expr.position, simple ? absl::StrCat("the type ", word, " has no parameter")
                                         : absl::StrCat("the type ", word, " needs a parameter"));
  if (simple) return type;
  const Expr& parameter = *expr.children[0];
  if (type.kind == Type::Kind::kObject) return ParseObjectType(parameter);
  if (type.kind != Type::Kind::kTuple) {
    KILN_ASSIGN_OR_RETURN(type.items.emplace_back(), ParseType(parameter));
    return type;
  }
  if (parameter.kind != Expr::Kind::kTuple)
    return ErrorAt(parameter.position, "tuple needs [TYPE, …]");
  for (const ExprPtr& item : parameter.children) {
    KILN_ASSIGN_OR_RETURN(type.items.emplace_back(), ParseType(*item));
  }
  return type;
}

absl::StatusOr<Value> Convert(const Value& value, const Type& type) {
  if (value.is_null()) return value;
  switch (type.kind) {
    case Type::Kind::kAny:
      return value;
    case Type::Kind::kString: {
      KILN_ASSIGN_OR_RETURN(std::string text, value.ToString());
      return Value(std::move(text));
    }
    case Type::Kind::kNumber: {
      KILN_ASSIGN_OR_RETURN(const double number, value.ToNumber());
      return Value(number);
    }
    case Type::Kind::kBool: {
      KILN_ASSIGN_OR_RETURN(const bool boolean, value.ToBool());
      return Value(boolean);
    }
    case Type::Kind::kList:
    case Type::Kind::kSet:
    case Type::Kind::kTuple:
      return ConvertItems(value, type);
    case Type::Kind::kMap:
    case Type::Kind::kObject:
      return ConvertMembers(value, type);
  }
  return value;
}

absl::StatusOr<Value> FromEnvironment(const std::string& name, const std::string& text,
                                      const Type& type) {
  if (type.kind <= Type::Kind::kBool || type.kind == Type::Kind::kObject)
    return FromText(name, text, type);
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> fields, Annotate(SplitCsv(text), name));
  if (type.kind == Type::Kind::kMap) {
    Value::Object members;
    for (const std::string& field : fields) {
      const size_t colon = field.find(':');
      if (colon == std::string::npos)
        return absl::InvalidArgumentError(
            absl::StrCat(name, ": \"", field, "\" must be KEY:VALUE"));
      KILN_ASSIGN_OR_RETURN(members[field.substr(0, colon)],
                            FromText(name, field.substr(colon + 1), type.items[0]));
    }
    return Value(std::move(members));
  }
  if (type.kind == Type::Kind::kTuple && fields.size() != type.items.size())
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": tuple expects ", type.items.size(), " items, not ", fields.size()));
  Value::List items;
  for (size_t i = 0; i < fields.size(); ++i) {
    const Type& want = type.kind == Type::Kind::kTuple ? type.items[i] : type.items[0];
    KILN_ASSIGN_OR_RETURN(items.emplace_back(), FromText(name, fields[i], want));
  }
  return Convert(Value(std::move(items)), type);
}

}  // namespace kiln::client::hcl
