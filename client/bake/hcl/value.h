#pragma once

#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::client::hcl {

// What an expression yields. Lists stand for HCL's lists, tuples and sets, objects for its objects
// and maps. Immutable; a copy shares its contents. Numbers are doubles: whole ones are exact up to
// 2^53.
class Value {
 public:
  using List = std::vector<Value>;
  using Object = std::map<std::string, Value>;

  Value() = default;  // null
  explicit Value(bool value) : data_(value) {}
  explicit Value(double value) : data_(value) {}
  explicit Value(std::string value)
      : data_(std::make_shared<const std::string>(std::move(value))) {}
  explicit Value(const char* value) : Value(std::string(value)) {}
  explicit Value(List value) : data_(std::make_shared<const List>(std::move(value))) {}
  explicit Value(Object value) : data_(std::make_shared<const Object>(std::move(value))) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_number() const { return std::holds_alternative<double>(data_); }
  bool is_string() const { return std::holds_alternative<StringPtr>(data_); }
  bool is_list() const { return std::holds_alternative<ListPtr>(data_); }
  bool is_object() const { return std::holds_alternative<ObjectPtr>(data_); }
  bool is_primitive() const { return is_bool() || is_number() || is_string(); }

  // Only for a value of that kind.
  bool boolean() const { return std::get<bool>(data_); }
  double number() const { return std::get<double>(data_); }
  const std::string& string() const { return *std::get<StringPtr>(data_); }
  const List& list() const { return *std::get<ListPtr>(data_); }
  const Object& object() const { return *std::get<ObjectPtr>(data_); }

  // "string", "bool", "number", "list", "object", "null"
  const char* kind() const;

  // HCL's conversions between primitives. kInvalidArgument says what is there instead.
  absl::StatusOr<std::string> ToString() const;
  absl::StatusOr<double> ToNumber() const;
  absl::StatusOr<bool> ToBool() const;

  friend bool operator==(const Value& a, const Value& b);
  friend bool operator!=(const Value& a, const Value& b) { return !(a == b); }

 private:
  using StringPtr = std::shared_ptr<const std::string>;
  using ListPtr = std::shared_ptr<const List>;
  using ObjectPtr = std::shared_ptr<const Object>;
  std::variant<std::monostate, bool, double, StringPtr, ListPtr, ObjectPtr> data_;
};

// Without exponent, as short as it can be read back: "3", "1.5".
std::string FormatNumber(double number);
// A decimal number, with or without exponent. kInvalidArgument for other text and for whole numbers
// that a double can't hold exactly.
absl::StatusOr<double> ParseNumber(absl::string_view text);

// The value as JSON, as Go writes it.
absl::StatusOr<std::string> ToJson(const Value& value);
// kInvalidArgument for text that is no JSON, or is nested deeper than 100.
absl::StatusOr<Value> FromJson(absl::string_view text);

}  // namespace kiln::client::hcl
