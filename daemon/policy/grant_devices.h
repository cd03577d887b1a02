#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/device/device_grants.h"

namespace kiln::daemon {

// A serialized pb.Definition whose steps ask for the devices that they get, by qualified name
// (llb.md 1.6.3): aliases and wildcards are gone, so the devices themselves are part of the cache
// keys. A definition without devices is only skimmed, and keeps its bytes; so does one that is
// malformed, which the one who loads it refuses. Errors are those of the grants. Blocks.
absl::StatusOr<std::string> GrantDevices(std::string definition, const DeviceGrants& grants,
                                         const DeviceRegistry& registry);

}  // namespace kiln::daemon
