#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

// Readers and writers of values in Go's notation, which Dockerfiles, options and the messages about
// them use. Statuses are kInvalidArgument in Go's words.
namespace kiln::daemon::dockerfile {

// As strconv.Quote and %q: "a\tb".
std::string Quote(absl::string_view text);

// As strconv.ParseBool: 1 t T TRUE true True and 0 f F FALSE false False.
std::optional<bool> ParseBool(absl::string_view text);

// As strconv.ParseUint for 32 bits: nothing but digits of the base (8 or 10).
std::optional<uint32_t> ParseUint32(absl::string_view text, int base);

// As strconv.ParseInt with base 10 for 32 bits.
absl::StatusOr<int32_t> ParseInt32(absl::string_view text);

// As time.ParseDuration: "1h30m", "1.5s", "-2ms", "0".
absl::StatusOr<absl::Duration> ParseGoDuration(absl::string_view text);

// Bytes in people's notation, as docker's units.RAMInBytes: "64m", "1.5 GiB", "512"; units are
// powers of 1024.
std::optional<int64_t> ParseRamSize(absl::string_view text);

}  // namespace kiln::daemon::dockerfile
