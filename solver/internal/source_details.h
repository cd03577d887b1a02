#pragma once

#include "absl/status/status.h"
#include "solver/definition.h"

namespace kiln::solver {

// Adds the source locations of the vertex that `status` names in its Vertex detail. Does nothing
// when there is none, or without `sources`.
void AddSourceDetails(const SourceMap* sources, absl::Status* status);

}  // namespace kiln::solver
