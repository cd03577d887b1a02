#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pb {
class Op;
}

namespace kiln::solver {

// What the status stream calls the vertex when its description does not name it. `input_names` are
// the names of its inputs, which those of merge and diff are made of; long ones are cut, as names
// of names may grow without bound.
std::string VertexName(const pb::Op& op, absl::Span<const absl::string_view> input_names);

}  // namespace kiln::solver
