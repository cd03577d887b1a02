#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "store/blob_store.h"
#include "store/layer/descriptor.h"

namespace kiln::daemon {

// Puts the documents of an image under a lease: its index, manifests, configs and attestations, not
// its layers. Those that are gone already are no loss. Blocks; O(their bytes).
absl::Status HoldImageDocuments(store::BlobStore& blobs, absl::string_view lease,
                                const store::Descriptor& root);

}  // namespace kiln::daemon
