#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon::dockerfile {

// What a client asks of the frontend, in the option frontend.caps.
struct CapabilityCheck {
  absl::Status status;   // kUnimplemented with a typed detail: names what is not there
  bool forward = false;  // another frontend, that the Dockerfile names, may have it
};
CapabilityCheck CheckCapabilities(absl::string_view wanted);

}  // namespace kiln::daemon::dockerfile
