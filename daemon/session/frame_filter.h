#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kiln::daemon {

// Follows what our end of an HTTP/2 connection sends and takes out frames of streams that it has
// not opened (RFC 9113, section 5.1). gRPC 1.51 sends RST_STREAM also for a call that is cancelled
// before its headers are written; the peer has never heard of that stream, and a Go peer answers
// with a connection error, which ends the calls of everybody in the session.
// Of header blocks only the first frame is looked at. Not thread-safe.
class FrameFilter {
 public:
  // `data` from `from` on is what comes next in the connection, cut anywhere. Keeps back the head
  // of a frame that is not complete (up to 8 bytes) until the rest of it comes. O(bytes).
  void Apply(std::string* data, size_t from);

 private:
  size_t rest_ = 24;  // bytes to come of the frame under way; first the preface (section 3.4)
  bool drop_ = false;
  uint32_t opened_ = 0;  // the last stream opened
  std::string head_;     // not complete
};

}  // namespace kiln::daemon
