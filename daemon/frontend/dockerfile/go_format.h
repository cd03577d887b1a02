#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// Values as Go's fmt, time and strconv write and read them: history entries and messages carry such
// texts, and clients compare both. See also syntax/go_text.h.
namespace kiln::daemon::dockerfile {

// %q of a list: ["a" "b"].
std::string QuoteList(const std::vector<std::string>& list);
// %v of a list: [a b].
std::string PlainList(const std::vector<std::string>& list);
// time.Duration's String: "1m30s", "1.5s", "0s".
std::string DurationText(int64_t nanoseconds);

// strconv.ParseInt and ParseUint in base 10. kInvalidArgument has Go's words:
// strconv.ParseInt: parsing "x": invalid syntax.
absl::StatusOr<int64_t> ParseInt(absl::string_view text);
absl::StatusOr<uint64_t> ParseUint(absl::string_view text);

}  // namespace kiln::daemon::dockerfile
