#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace kiln {

// Go's url.QueryEscape: letters, digits and "-_.~" stay, a space becomes '+', the rest %XX.
std::string QueryEscape(absl::string_view text);

}  // namespace kiln
