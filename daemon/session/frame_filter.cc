#include "daemon/session/frame_filter.h"

#include <algorithm>
#include <cstring>

namespace kiln::daemon {

void FrameFilter::Apply(std::string* data, size_t from) {
  constexpr size_t kHeadBytes = 9;
  constexpr uint8_t kHeaders = 1;
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
      const size_t length = size_t{head[0]} << 16 | size_t{head[1]} << 8 | head[2];
      const uint32_t stream = uint32_t{head[5] & 0x7fu} << 24 | uint32_t{head[6]} << 16 |
                              uint32_t{head[7]} << 8 | head[8];
      if (head[3] == kHeaders) opened_ = std::max(opened_, stream);
      drop_ = stream > opened_;
      rest_ = kHeadBytes + length;
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

}  // namespace kiln::daemon
