#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/digest.h"
#include "store/base/cancel.h"

namespace kiln::client {

// Both run the ctr program, in the namespace $CONTAINERD_NAMESPACE ("default"), and block.

// The blobs that are there, at most `limit`.
absl::StatusOr<std::vector<Digest>> BlobsInContainerd(const std::string& address, size_t limit,
                                                      const CancelToken& cancel);
// Imports and unpacks an archive, which `file` is.
absl::Status ImportIntoContainerd(const std::string& address, int file, const CancelToken& cancel);

}  // namespace kiln::client
