#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/image_archive.h"
#include "store/base/cancel.h"

namespace kiln::client {

// Both run the ctr program, in the namespace $CONTAINERD_NAMESPACE ("default"), and block.

// The layers that an archive need not have, as their blobs are there.
absl::StatusOr<std::set<std::string>> LayersInContainerd(const std::string& address,
                                                         const ImageArchive& archive,
                                                         const CancelToken& cancel);
// Imports and unpacks an archive, which these ranges of the file are.
absl::Status ImportIntoContainerd(const std::string& address, int file,
                                  const std::vector<ImageArchive::Range>& ranges,
                                  const CancelToken& cancel);

}  // namespace kiln::client
