#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace kiln::client {

// An RPC's outcome with its typed details as payloads (proto/status_details.h).
absl::Status FromGrpc(const grpc::Status& status);
// The reverse, for the services that the client offers on its session.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace kiln::client
