#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/location.h"
#include "proto/go_json.h"

// Forms that the answers to subrequests share. Clients print and parse them, so both are as Go
// writes them.
namespace kiln::daemon::dockerfile {

// Compact JSON with two blanks for each level (json.MarshalIndent).
std::string Indented(absl::string_view json);

// Rows as columns: each cell but the last of its row is padded to the widest of its column, plus
// `padding` blanks (text/tabwriter). A newline after each row.
std::string Table(const std::vector<std::vector<std::string>>& rows, size_t padding);

// A pb.Location: one range for each line, every line once.
void WriteLocation(const std::vector<LineRange>& locations, GoJson& json);

}  // namespace kiln::daemon::dockerfile
