#include "daemon/session/sent_frames.h"

#include <algorithm>
#include <cstring>

namespace kiln::daemon {
namespace {

constexpr size_t kHeadBytes = 9;
constexpr int kMaxWaiting = 32;
constexpr uint64_t kEnough = 16 << 10;

enum FrameType : uint8_t { kHeaders = 1, kSettings = 4, kWindowUpdate = 8 };

uint32_t Number(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

}  // namespace

void SentFrames::Pass(std::string* data, size_t from) {
  data->insert(from, head_);
  head_.clear();
  char* const bytes = data->data();
  const size_t end = data->size();
  size_t in = from, out = from;
  while (in < end) {
    if (rest_ == 0) {
      if (end - in < kHeadBytes) {
        head_.assign(bytes + in, end - in);
        break;
      }
      const auto* head = reinterpret_cast<const uint8_t*>(bytes + in);
      const uint32_t stream = Number(head + 5) & 0x7fffffff;
      if (head[3] == kHeaders) opened_ = std::max(opened_, stream);
      rest_ = kHeadBytes + (Number(head) >> 8);
      drop_ = stream > opened_;
      if (!drop_ && !Waits(head, end - in)) urgent_ = true;
    }
    const size_t n = std::min(rest_, end - in);
    if (!drop_) {
      if (out != in) memmove(bytes + out, bytes + in, n);
      out += n;
    }
    in += n;
    rest_ -= n;
  }
  data->resize(out);
}

bool SentFrames::Waits(const uint8_t* head, size_t bytes) {
  constexpr uint8_t kAck = 1;
  if (++waiting_ > kMaxWaiting) return false;
  if (opened_ == 0) return head[3] == kSettings || head[3] == kWindowUpdate;
  if (head[3] == kSettings) return (head[4] & kAck) != 0;
  if (head[3] != kWindowUpdate || bytes < kHeadBytes + 4) return false;
  given_back_ += Number(head + kHeadBytes);
  return given_back_ < kEnough;
}

bool SentFrames::CanWait() const { return !urgent_ && (rest_ == 0 || drop_); }

void SentFrames::Sent() {
  urgent_ = false;
  waiting_ = 0;
  given_back_ = 0;
}

}  // namespace kiln::daemon
