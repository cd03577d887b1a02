#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace kiln::daemon {

// Finds the gRPC messages in the bytes that an HTTP/2 client sends, and changes the length that
// one of more than 32 MiB begins with to one byte more than is allowed. gRPC looks at a length
// only when it has the whole message in memory; so it has little, and refuses it in its own words,
// which name the limit. What follows in that stream means nothing any more, as its call has ended.
// Not thread-safe.
class MessageLimit {
 public:
  static constexpr uint32_t kMaxBytes = 16 << 20;  // what gRPC is told

  // The next bytes of the connection, from its first one on; changed in place.
  void Pass(absl::Span<uint8_t> bytes);

  // Streams that are in the middle of a message.
  size_t incomplete() const { return messages_.size(); }

 private:
  static constexpr size_t kPrefaceBytes = 24, kFrameHeaderBytes = 9, kMessageHeaderBytes = 5;

  struct Message {
    uint8_t header_bytes = 0;  // that have come
    bool too_long = false;
    uint32_t left = 0;  // of the content, as the client counts it
  };

  void BeginFrame();
  // Takes a part of the frame's payload from the front.
  void PassPayload(absl::Span<uint8_t>* bytes);
  void PassData(absl::Span<uint8_t> bytes);
  void EndFrame();

  size_t preface_left_ = kPrefaceBytes;
  uint8_t header_[kFrameHeaderBytes] = {};
  size_t header_bytes_ = 0;
  // The frame whose header is complete:
  bool is_data_ = false, pad_length_next_ = false;
  uint32_t stream_ = 0, left_ = 0, padding_ = 0;
  Message message_;  // of its stream
  absl::flat_hash_map<uint32_t, Message> messages_;
};

}  // namespace kiln::daemon
