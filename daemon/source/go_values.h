#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/go_json.h"

namespace kiln::daemon {

// A Go []string: nil and empty are two values, since JSON tells them apart and digests are taken
// over JSON.
using GoStrings = std::optional<std::vector<std::string>>;

// An attribute that holds a JSON array of strings. kInvalidArgument names the attribute.
absl::StatusOr<GoStrings> ParseStringArray(absl::string_view attr, absl::string_view json);

// As Go's strconv.ParseBool. kInvalidArgument names the attribute and the value.
absl::StatusOr<bool> ParseGoBool(absl::string_view attr, absl::string_view text);

// As Go's strconv.ParseInt with base 0: "0644" and "0o644" are octal, "0x1a4" hexadecimal.
// kInvalidArgument names the attribute and the value.
absl::StatusOr<int64_t> ParseGoInt(absl::string_view attr, absl::string_view text);

// "%41%2F" -> "A/"; what is no escape stays as it is.
std::string PercentDecode(absl::string_view text);

// Writes the member as Go does: null for nil.
void WriteStrings(absl::string_view key, const GoStrings& values, GoJson& json);

}  // namespace kiln::daemon
