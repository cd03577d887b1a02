#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "store/base/cancel.h"
#include "store/fsutil/file_source.h"
#include "store/fsutil/packet.h"

namespace kiln::fsutil {

struct SendOptions {
  CancelToken cancel = {};
  // Bytes of packets written so far; called by the writing thread for every packet.
  std::function<void(int64_t bytes)> progress = {};
};

// The sender's side of the protocol (wire.md 3.2): writes the listing, answers requests for
// content, exchanges FIN. Returns when the receiver has everything. Blocking; uses the calling
// thread for reading and one more for writing.
//
// A failed walk or read is told to the receiver in an ERR packet. kInvalidArgument when the
// receiver breaks the protocol; "error from receiver: …" for its ERR packet; kUnavailable when it
// ends the stream early. On every error but the walk's own the stream is aborted.
absl::Status Send(PacketStream& stream, FileSource& source, const SendOptions& options = {});

}  // namespace kiln::fsutil
