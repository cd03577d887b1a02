#pragma once

#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Whether these bytes are a few whole WINDOW_UPDATE frames (RFC 9113, section 6.9), at most 32,
// that together give back less than a quarter of the smallest window: gRPC writes some for every
// message that it reads, and no peer is short of them yet. Empty: yes. O(1).
bool AreSmallWindowUpdates(absl::string_view bytes);

}  // namespace kiln::daemon
