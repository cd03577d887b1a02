#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Graphs (serialized pb.Definition) of the client's directories in a definition, one for each: the
// source alone, with what is shown of it. None for what is malformed, which whoever solves it says.
// Cost: one pass over the definition's bytes.
std::vector<std::string> LocalSources(const std::string& definition);

}  // namespace kiln::daemon
