#pragma once

#include <toml++/toml.h>

#include "absl/status/status.h"
#include "daemon/config/config.h"

namespace kiln::daemon {

// The table "registry" of a buildkitd.toml: one table for each host. Unknown keys become warnings.
// kInvalidArgument names the host and the key.
absl::Status ReadRegistries(const toml::node& node, Config* config);

}  // namespace kiln::daemon
