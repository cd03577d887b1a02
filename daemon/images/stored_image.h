#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/exporter/image_writer.h"
#include "store/blob_store.h"
#include "store/image_table.h"

namespace kiln::daemon {

// What a named image consists of, read from its manifests. kDataLoss when one of them is not stored
// (a power loss may take it). Blocks.
absl::StatusOr<WrittenImage> ReadStoredImage(store::BlobStore& blobs,
                                             const store::NamedImage& image);

// What people are shown of it.
struct ImageSummary {
  std::vector<std::string> platforms;  // attestations left out
  int64_t size_bytes = 0;              // of all that it consists of, each blob once
  int64_t missing_bytes = 0;           // of layers that are not stored
};
absl::StatusOr<ImageSummary> Summarize(store::BlobStore& blobs, const store::NamedImage& image);

}  // namespace kiln::daemon
