#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "store/fsutil/packet.h"

namespace kiln::fsutil {

// The protobuf form of fsutil.types.Packet and Stat, written by hand: a transfer is tens of
// thousands of tiny messages whose paths are bytes (not checked as UTF-8), and this module stays
// free of generated code. Unknown fields are skipped.

// Appends the encoded message to `out`.
void AppendPacket(const Packet& packet, std::string* out);
void AppendStat(const Stat& stat, std::string* out);

// Length of what AppendPacket would add.
size_t EncodedSize(const Packet& packet);
size_t EncodedSize(const Stat& stat);

// Overwrites `packet`. kInvalidArgument for bytes that are not such a message.
absl::Status ParsePacket(absl::string_view bytes, Packet* packet);
absl::Status ParseStat(absl::string_view bytes, Stat* stat);

}  // namespace kiln::fsutil
