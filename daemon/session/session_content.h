#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/session/session.h"
#include "proto/digest.h"
#include "store/base/cancel.h"
#include "store/blob_store.h"

namespace kiln::daemon {

// Writes one blob into a content store of the client (wire.md 3.9). OK also when the client has it
// already. kUnimplemented when it offers no content stores, kNotFound when it has none of that id.
// Blocks.
absl::Status WriteSessionBlob(Session& session, absl::string_view store_id, store::BlobStore& blobs,
                              const Digest& digest, int64_t size_bytes, const CancelToken& cancel);

}  // namespace kiln::daemon
