#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/bake/hcl/ast.h"
#include "client/bake/hcl/value.h"

namespace kiln::client::hcl {

// A type constraint of a variable: string, number, bool, any, list(T), set(T), map(T), tuple([T…]),
// object({name=T…}) with optional(T[, default]).
struct Type {
  enum class Kind { kAny, kString, kNumber, kBool, kList, kSet, kMap, kTuple, kObject };
  Kind kind = Kind::kAny;
  std::vector<Type> items;                 // of list, set, map: one; of tuple: each
  std::map<std::string, Type> attributes;  // of object
  bool optional = false;                   // as an attribute
  Value fallback;                          // of an optional attribute

  bool is_primitive() const { return kind >= Kind::kString && kind <= Kind::kBool; }
  std::string name() const;  // "list of string"
};

// kInvalidArgument with the place.
absl::StatusOr<Type> ParseType(const Expr& expr);

// The value as that type; null stays null. kInvalidArgument when it can't be.
absl::StatusOr<Value> Convert(const Value& value, const Type& type);

// The value of an environment variable of that type: a primitive as it is written, a list, set or
// tuple by commas, a map as key:value by commas. kInvalidArgument names the variable.
absl::StatusOr<Value> FromEnvironment(const std::string& name, const std::string& text,
                                      const Type& type);

}  // namespace kiln::client::hcl
