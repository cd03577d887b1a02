#include "daemon/session/window_updates.h"

#include <arpa/inet.h>

#include <cstdint>
#include <cstring>

#include "absl/strings/match.h"

namespace kiln::daemon {

bool AreSmallWindowUpdates(absl::string_view bytes) {
  constexpr absl::string_view kHead("\0\0\4\10\0", 5);  // length, type, flags
  constexpr size_t kFrameBytes = 13, kIncrementAt = 9, kMaxFrames = 32;
  constexpr uint64_t kEnough = 16 << 10;
  if (bytes.size() > kMaxFrames * kFrameBytes || bytes.size() % kFrameBytes != 0) return false;
  uint64_t given = 0;
  for (; !bytes.empty(); bytes.remove_prefix(kFrameBytes)) {
    if (!absl::StartsWith(bytes, kHead)) return false;
    uint32_t increment;
    memcpy(&increment, bytes.data() + kIncrementAt, sizeof(increment));
    given += ntohl(increment);
  }
  return given < kEnough;
}

}  // namespace kiln::daemon
