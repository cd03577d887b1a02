#pragma once

#include <memory>

#include "client/llb/constraints.h"
#include "daemon/frontend/dockerfile/syntax/location.h"

namespace kiln::daemon::dockerfile {

// The key in a step's description under which the instruction's text is.
inline constexpr char kCommandKey[] = "com.docker.dockerfile.v1.command";

// Where a step is written: on the wire, a range for each line.
inline client::llb::SourceLocation LocationOf(
    const std::shared_ptr<const client::llb::SourceText>& text, const LineRange& lines) {
  client::llb::SourceLocation location{text, {}};
  if (lines.first == 0) return location;
  for (int line = lines.first; line <= lines.last; ++line) {
    location.ranges.push_back({line, 0, line, 0});
  }
  return location;
}

}  // namespace kiln::daemon::dockerfile
