#include "client/bake/hcl/value.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

constexpr double kMaxExact = 9007199254740992.0;  // 2^53
constexpr int kMaxJsonDepth = 100;

void AppendJson(const Value& value, GoJson* json) {
  if (value.is_null()) {
    json->Null();
  } else if (value.is_bool()) {
    json->Bool(value.boolean());
  } else if (value.is_number()) {
    json->Raw(FormatNumber(value.number()));
  } else if (value.is_string()) {
    json->String(value.string());
  } else if (value.is_list()) {
    json->BeginArray();
    for (const Value& item : value.list()) AppendJson(item, json);
    json->EndArray();
  } else {
    json->BeginObject();
    for (const auto& [key, item] : value.object()) {
      json->Key(key);
      AppendJson(item, json);
    }
    json->EndObject();
  }
}

absl::StatusOr<Value> FromParsed(const nlohmann::json& json, int depth) {
  if (depth > kMaxJsonDepth) return absl::InvalidArgumentError("JSON is nested too deeply");
  if (json.is_boolean()) return Value(json.get<bool>());
  if (json.is_string()) return Value(json.get<std::string>());
  if (json.is_number()) return Value(json.get<double>());
  if (json.is_array()) {
    Value::List list;
    for (const auto& item : json) {
      KILN_ASSIGN_OR_RETURN(list.emplace_back(), FromParsed(item, depth + 1));
    }
    return Value(std::move(list));
  }
  if (json.is_object()) {
    Value::Object object;
    for (const auto& [key, item] : json.items()) {
      KILN_ASSIGN_OR_RETURN(object[key], FromParsed(item, depth + 1));
    }
    return Value(std::move(object));
  }
  return Value();
}

}  // namespace

const char* Value::kind() const {
  static constexpr const char* kKinds[] = {"null", "bool", "number", "string", "list", "object"};
  return kKinds[data_.index()];
}

absl::StatusOr<std::string> Value::ToString() const {
  if (is_string()) return string();
  if (is_number()) return FormatNumber(number());
  if (is_bool()) return std::string(boolean() ? "true" : "false");
  return absl::InvalidArgumentError(absl::StrCat("a string is required, not ", kind()));
}

absl::StatusOr<double> Value::ToNumber() const {
  if (is_number()) return number();
  if (is_string()) return ParseNumber(string());
  return absl::InvalidArgumentError(absl::StrCat("a number is required, not ", kind()));
}

absl::StatusOr<bool> Value::ToBool() const {
  if (is_bool()) return boolean();
  if (is_string() && (string() == "true" || string() == "1")) return true;
  if (is_string() && (string() == "false" || string() == "0")) return false;
  return absl::InvalidArgumentError(absl::StrCat(
      "a bool is required, not ", is_string() ? absl::StrCat("\"", string(), "\"") : kind()));
}

bool operator==(const Value& a, const Value& b) {
  if (a.data_.index() != b.data_.index()) return false;
  if (a.is_string()) return a.string() == b.string();
  if (a.is_list()) return a.list() == b.list();
  if (a.is_object()) return a.object() == b.object();
  return a.data_ == b.data_;
}

std::string FormatNumber(double number) {
  char buffer[512];  // a double has up to 309 digits before the point
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), number == 0 ? 0 : number,  // no "-0"
                    std::chars_format::fixed);
  return std::string(buffer, end.ptr);
}

absl::StatusOr<double> ParseNumber(absl::string_view text) {
  double number = 0;
  // SimpleAtod also takes spaces, "inf" and hexadecimal.
  const bool plain = text.find_first_not_of("0123456789.eE+-") == absl::string_view::npos &&
                     !text.empty() && text[0] != '+';
  if (!plain || !absl::SimpleAtod(text, &number) || !std::isfinite(number))
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a number"));
  if (number == std::floor(number) && std::fabs(number) > kMaxExact)
    return absl::InvalidArgumentError(
        absl::StrCat("the number ", text, " is too large to be exact"));
  return number;
}

absl::StatusOr<std::string> ToJson(const Value& value) {
  GoJson json;
  AppendJson(value, &json);
  return json.Take();
}

absl::StatusOr<Value> FromJson(absl::string_view text) {
  // The parser itself is iterative, its callback counts; so hostile depth costs no stack.
  bool too_deep = false;
  const auto limit = [&too_deep](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    too_deep = too_deep || depth > kMaxJsonDepth;
    return !too_deep;
  };
  const nlohmann::json json = nlohmann::json::parse(text.begin(), text.end(), limit, false);
  if (too_deep) return absl::InvalidArgumentError("JSON is nested too deeply");
  if (json.is_discarded()) return absl::InvalidArgumentError("the text is not JSON");
  return FromParsed(json, 0);
}

}  // namespace kiln::client::hcl
