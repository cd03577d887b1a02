#include "daemon/source/go_values.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace kiln::daemon {

absl::StatusOr<GoStrings> ParseStringArray(absl::string_view attr, absl::string_view json) {
  auto bad = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid value for ", attr, ": not a JSON array of strings"));
  };
  const auto parsed =
      nlohmann::json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (parsed.is_null()) return GoStrings();
  if (!parsed.is_array()) return bad();
  std::vector<std::string> out;
  for (const auto& value : parsed) {
    if (!value.is_string()) return bad();
    out.push_back(value.get<std::string>());
  }
  return GoStrings(std::move(out));
}

absl::StatusOr<bool> ParseGoBool(absl::string_view attr, absl::string_view text) {
  for (const char* yes : {"1", "t", "T", "TRUE", "true", "True"})
    if (text == yes) return true;
  for (const char* no : {"0", "f", "F", "FALSE", "false", "False"})
    if (text == no) return false;
  return absl::InvalidArgumentError(
      absl::StrCat("invalid value for ", attr, " \"", text, "\": not a boolean"));
}

void WriteStrings(absl::string_view key, const GoStrings& values, GoJson& json) {
  json.Key(key);
  if (!values.has_value()) {
    json.Null();
    return;
  }
  json.BeginArray();
  for (const std::string& value : *values) json.String(value);
  json.EndArray();
}

}  // namespace kiln::daemon
