#include "daemon/rpc/message_limit.h"

#include <algorithm>
#include <cstring>

namespace kiln::daemon {

namespace {

// RFC 9113, 6.1 and 6.4.
constexpr uint8_t kDataFrame = 0, kResetFrame = 3;
constexpr uint8_t kEndStream = 1, kPadded = 8;

constexpr uint8_t kRefused[] = {1, 0, 0, 1};
static_assert(MessageLimit::kMaxBytes == 1 << 24, "kRefused is one more");

absl::Span<uint8_t> Take(absl::Span<uint8_t>* bytes, size_t size) {
  const absl::Span<uint8_t> taken = bytes->first(std::min(size, bytes->size()));
  bytes->remove_prefix(taken.size());
  return taken;
}

}  // namespace

void MessageLimit::Pass(absl::Span<uint8_t> bytes) {
  preface_left_ -= Take(&bytes, preface_left_).size();
  while (!bytes.empty()) {
    if (header_bytes_ < kFrameHeaderBytes) {
      const auto part = Take(&bytes, kFrameHeaderBytes - header_bytes_);
      std::memcpy(header_ + header_bytes_, part.data(), part.size());
      header_bytes_ += part.size();
      if (header_bytes_ < kFrameHeaderBytes) return;
      BeginFrame();
    } else {
      PassPayload(&bytes);
    }
    if (left_ == 0) EndFrame();
  }
}

void MessageLimit::BeginFrame() {
  left_ = header_[0] << 16 | header_[1] << 8 | header_[2];
  stream_ = (header_[5] & 0x7f) << 24 | header_[6] << 16 | header_[7] << 8 | header_[8];
  is_data_ = header_[3] == kDataFrame;
  pad_length_next_ = is_data_ && (header_[4] & kPadded) != 0;
  padding_ = 0;
  message_ = {};
  if (!is_data_ || messages_.empty()) return;
  if (const auto known = messages_.find(stream_); known != messages_.end())
    message_ = known->second;
}

void MessageLimit::PassPayload(absl::Span<uint8_t>* bytes) {
  if (pad_length_next_) {
    pad_length_next_ = false;
    padding_ = bytes->front();
    bytes->remove_prefix(1);
    --left_;
    return;
  }
  const bool pads = left_ <= padding_;
  const absl::Span<uint8_t> part = Take(bytes, pads ? left_ : left_ - padding_);
  left_ -= part.size();
  if (is_data_ && !pads) PassData(part);
}

void MessageLimit::PassData(absl::Span<uint8_t> bytes) {
  while (!bytes.empty()) {
    if (message_.header_bytes == kMessageHeaderBytes) {
      message_.left -= Take(&bytes, message_.left).size();
    } else {
      uint8_t& byte = bytes.front();
      bytes.remove_prefix(1);
      const size_t at = message_.header_bytes++;  // the first one says whether it is compressed
      if (at == 0) continue;
      message_.left = message_.left << 8 | byte;
      message_.too_long |= at == 1 && byte > 1;
      if (message_.too_long) byte = kRefused[at - 1];
    }
    if (message_.header_bytes == kMessageHeaderBytes && message_.left == 0) message_ = {};
  }
}

void MessageLimit::EndFrame() {
  header_bytes_ = 0;
  if (is_data_ && message_.header_bytes > 0 && (header_[4] & kEndStream) == 0) {
    messages_[stream_] = message_;
  } else if (is_data_ || header_[3] == kResetFrame) {
    messages_.erase(stream_);
  }
}

}  // namespace kiln::daemon
