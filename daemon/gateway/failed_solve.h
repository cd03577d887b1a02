#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kiln::store {
class RefStore;
}

namespace kiln::daemon {

class Bridge;

// Adds what the op that failed was, by the vertex that the error names, to what the op itself left
// (ops/failed_step.h). `definition` is the serialized pb.Definition that was solved. O(its size).
absl::Status DescribeFailure(absl::string_view definition, absl::Status status);

// Turns that into an errdefs.Solve detail, whose ids the bridge's client may mount until the bridge
// is closed. An error without any stays as it is.
absl::Status TellFailedStep(absl::Status status, Bridge& bridge, store::RefStore* refs);

}  // namespace kiln::daemon
