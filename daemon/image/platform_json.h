#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/image/platform.h"

namespace kiln::daemon {

// An OCI platform object as it is, not normalised. Unknown members are ignored; kInvalidArgument
// when it is no such object.
absl::StatusOr<Platform> PlatformFromJson(absl::string_view json);

// In the order of OCI's Go structure, compact.
std::string PlatformToJson(const Platform& platform);

}  // namespace kiln::daemon
