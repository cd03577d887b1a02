#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Tells the service manager that started this process of its state, "READY=1" or "STOPPING=1", by
// the protocol of sd_notify(3). Does nothing when NOTIFY_SOCKET is not set. Does not block.
absl::Status NotifyService(absl::string_view state);

}  // namespace kiln::daemon
