#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/location.h"

namespace kiln::daemon::dockerfile {

// The lines around `lines`, marked and numbered, as clients print them under an error or a finding.
// Empty when `lines` is outside the file.
//
//   Dockerfile:3
//   --------------------
//      1 |     FROM alpine
//      2 |
//      3 | >>> RUNN x
//   --------------------
std::string Excerpt(absl::string_view filename, absl::string_view data, const LineRange& lines);

}  // namespace kiln::daemon::dockerfile
