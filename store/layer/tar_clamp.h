#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "store/base/cancel.h"
#include "store/layer/byte_stream.h"

namespace kiln::store {

// Copies a tar archive with all times later than `latest` set to it: modification, access and
// change times, in headers and pax records. Everything else stays byte for byte, so an archive
// without such times comes out as it is. kDataLoss for a damaged archive.
absl::Status ClampTarTimes(ByteStream& tar, absl::Time latest, const CancelToken& cancel,
                           const ByteSink& sink);

}  // namespace kiln::store
