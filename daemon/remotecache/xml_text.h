#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace kiln::daemon {

// The text between <name> and </name>, the first there is; "" when there is none. Enough for the
// answers of storage services, which are flat.
std::string XmlText(absl::string_view xml, absl::string_view name);

// What a storage service's error body says: "Code: Message", else its beginning.
std::string XmlErrorText(absl::string_view body);

}  // namespace kiln::daemon
