#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace kiln::daemon {

// The one place where errors enter and leave gRPC. Codes are the same numbers; details travel in
// grpc-status-details-bin (proto/status_details.h). Details that would make the trailers larger
// than a peer accepts are left out, the largest first; a longer message is cut.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

// A failed build as clients are told: BuildKit's use no code but unknown for it, and those of Go
// print any other before the message. What clients act on keeps its code: cancelled, unimplemented,
// refused access, and faults and full disks of the daemon.
absl::Status AsBuildFailure(const absl::Status& status);

}  // namespace kiln::daemon
