#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "store/base/cancel.h"
#include "store/fsutil/packet.h"
#include "store/fsutil/receive_target.h"

namespace kiln::fsutil {

// Name of the listing that a metadata-only transfer leaves at the root (wire.md 3.2).
inline constexpr char kMetadataFile[] = ".fsutil-metadata";

struct ReceiveOptions {
  // kMetadata: content is asked for only where mode, owner, device, link name or (but for
  // directories) size or time differ from what is there. kNone: of each file.
  enum class Differ { kMetadata, kNone };
  Differ differ = Differ::kMetadata;

  // The directory that holds what is there, as the target sees it. What it has and the listing has
  // not is removed. Empty: nothing is compared, nothing removed (merge).
  std::string existing_root = {};

  // Changes an entry before it is compared and written (forcing the owner, say).
  std::function<void(Stat* stat)> map = {};

  // Only the listing is kept, as kMetadataFile; files are made only where `exception` says so.
  bool metadata_only = false;
  std::function<bool(const std::string& path)> exception = {};

  // Returns once the tree is complete and FIN is sent; the sender's FIN is left in the stream. All
  // that it could still tell is that it heard.
  bool leave_fin = false;

  CancelToken cancel = {};
  // Bytes of packets received so far, for every packet.
  std::function<void(int64_t bytes)> progress = {};
};

// The receiver's side of the protocol (wire.md 3.2). Returns when everything is written and FIN is
// exchanged; the caller then awaits the end of the stream in its own way. Blocking; the calling
// thread reads and writes files. Beyond the first few requests one more thread sends them, so that
// a full stream in one direction never stops the other.
//
// A stream that breaks the rules ends with kInvalidArgument naming the path and the rule, "error
// from sender: …" for its ERR packet, kUnavailable when it ends early, kDataLoss when a file's
// bytes are not as many as announced. The sender is told in an ERR packet and the stream aborted.
absl::Status Receive(PacketStream& stream, ReceiveTarget& target,
                     const ReceiveOptions& options = {});

// Runs the receiver on recorded input, each packet with its length as a varint in front; what it
// writes is dropped. For tests and fuzzing.
absl::Status ReceiveBuffer(absl::string_view packets, ReceiveTarget& target,
                           const ReceiveOptions& options = {});

}  // namespace kiln::fsutil
