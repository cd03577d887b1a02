#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "store/blob_store.h"
#include "store/image_table.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// One entry for each named image, of type "kiln.image": the bytes that only names hold. A blob of
// several images counts for the first. O(images x blobs). Blocks.
absl::StatusOr<std::vector<store::UsageInfo>> ImageUsage(const store::ImageTable& images,
                                                         store::BlobStore& blobs);

}  // namespace kiln::daemon
