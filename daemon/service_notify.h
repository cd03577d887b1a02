#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Tells the service manager that started this process of its state, by the protocol of
// sd_notify(3). Not thread-safe.
class ServiceNotifier {
 public:
  // Takes NOTIFY_SOCKET out of the environment: an OCI runtime that found it would have containers
  // speak to the service manager. To be made before there are other threads.
  ServiceNotifier();

  // "READY=1" or "STOPPING=1". Does nothing when nobody asked to be told. Does not block.
  absl::Status Tell(absl::string_view state) const;

 private:
  std::string socket_;
};

}  // namespace kiln::daemon
