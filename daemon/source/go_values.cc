#include "daemon/source/go_values.h"

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

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

absl::StatusOr<int64_t> ParseGoInt(absl::string_view attr, absl::string_view text) {
  absl::string_view digits = text;
  const bool negative = absl::ConsumePrefix(&digits, "-");
  if (!negative) absl::ConsumePrefix(&digits, "+");
  int base = 10;
  if (absl::ConsumePrefix(&digits, "0x") || absl::ConsumePrefix(&digits, "0X")) {
    base = 16;
  } else if (absl::ConsumePrefix(&digits, "0b") || absl::ConsumePrefix(&digits, "0B")) {
    base = 2;
  } else if (absl::ConsumePrefix(&digits, "0o") || absl::ConsumePrefix(&digits, "0O")) {
    base = 8;
  } else if (digits.size() > 1 && digits.front() == '0') {
    base = 8;
  }
  int64_t value = 0;
  bool bad = digits.empty();
  for (const char c : digits) {
    const int digit = absl::ascii_isdigit(c)    ? c - '0'
                      : absl::ascii_isxdigit(c) ? absl::ascii_tolower(c) - 'a' + 10
                                                : 99;
    if (digit >= base || value > (INT64_MAX - digit) / base) {
      bad = true;
      break;
    }
    value = value * base + digit;
  }
  if (bad)
    return absl::InvalidArgumentError(
        absl::StrCat("invalid value for ", attr, " \"", text, "\": not a number"));
  return negative ? -value : value;
}

std::string PercentDecode(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && absl::ascii_isxdigit(text[i + 1]) &&
        absl::ascii_isxdigit(text[i + 2])) {
      uint32_t byte = 0;
      (void)absl::SimpleHexAtoi(text.substr(i + 1, 2), &byte);
      out.push_back(static_cast<char>(byte));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
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
