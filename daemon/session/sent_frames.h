#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kiln::daemon {

// Follows the frames that our end of a session's HTTP/2 connection sends (RFC 9113, section 4.1).
//
// Frames of streams that it has not opened are taken out: gRPC 1.51 sends RST_STREAM also for a
// call that is cancelled before its headers are written, and a Go client takes that for a
// connection error (section 5.1), which ends the calls of everybody in the session.
//
// Of the others it tells which can wait for something to travel with: until the first call the
// preface, SETTINGS and WINDOW_UPDATEs; later acknowledgements of SETTINGS and WINDOW_UPDATEs that
// together give back less than a quarter of the smallest window: gRPC writes some for every message
// that it reads, and no peer is short of them yet. At most 32 frames wait.
// Not thread-safe.
class SentFrames {
 public:
  // `data` from `from` on is what comes next in the connection, cut anywhere. Keeps back the head
  // of a frame that is not complete (up to 8 bytes) until the rest of it comes. O(bytes).
  void Pass(std::string* data, size_t from);

  // Whether all that has passed since the last Sent can wait.
  bool CanWait() const;
  void Sent();

 private:
  bool Waits(const uint8_t* head, size_t bytes);

  size_t rest_ = 24;  // bytes to come of the frame under way; first the preface (section 3.4)
  bool drop_ = false;
  uint32_t opened_ = 0;  // the last stream opened
  std::string head_;     // not complete
  bool urgent_ = false;
  int waiting_ = 0;  // frames
  uint64_t given_back_ = 0;
};

}  // namespace kiln::daemon
