#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// JSON as text that keeps what it does not understand: numbers stay as they were written and
// members in their order, as digests are taken over the bytes.

// Nesting beyond this is refused.
inline constexpr int kMaxJsonDepth = 64;

// One member of an object: its decoded name and its value, compact.
using JsonMember = std::pair<std::string, std::string>;

// The members of the object `text` in their order; of a repeated name the last value, as Go reads
// it. Names are unique in the answer. kInvalidArgument when it is not JSON, nests too deep, or is
// no object ("null" included). O(bytes).
absl::StatusOr<std::vector<JsonMember>> JsonMembers(absl::string_view text);

// The items of the array `text`, compact. "null" has none. Errors as above.
absl::StatusOr<std::vector<std::string>> JsonItems(absl::string_view text);

// Without blanks and with '<', '>', '&', U+2028 and U+2029 escaped, as Go's Marshal passes raw
// messages on. `text` must be valid JSON.
std::string CompactJson(absl::string_view text);

// Indented by two spaces, as Go's MarshalIndent. `compact` must be valid JSON without blanks.
std::string IndentJson(absl::string_view compact);

}  // namespace kiln::daemon
