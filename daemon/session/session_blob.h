#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/session/services.h"
#include "daemon/session/session.h"
#include "proto/digest.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// Blobs in a content store of the client (wire.md 3.9): `store_id` "oci:<key>", "local:<path>".
// kNotFound when it has no such store or blob, kUnimplemented when it offers no stores. What comes
// is not verified. Thread-safe; blocking.

absl::StatusOr<int64_t> SessionBlobSize(Session& session, absl::string_view store_id,
                                        const Digest& digest, const CancelToken& cancel);

// The bytes from `offset` on, in order. kDataLoss when they do not follow each other.
absl::Status ReadSessionBlob(Session& session, absl::string_view store_id, const Digest& digest,
                             int64_t offset, const CancelToken& cancel, const ByteSink& sink);

}  // namespace kiln::daemon
