#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "store/base/fd.h"

namespace kiln {

// A stream connected to the socket at `path`. kInvalidArgument for a path longer than addresses of
// sockets are, else what connect(2) says. Blocks while the server's backlog is full.
absl::StatusOr<Fd> ConnectUnix(const std::string& path);

}  // namespace kiln
