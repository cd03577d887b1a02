#pragma once

#include "client/llb/constraints.h"
#include "daemon/image/platform.h"

namespace kiln::daemon::dockerfile {

// The same value in the graph builder's type.
inline client::llb::Platform ToLlb(const Platform& platform) {
  return {platform.os, platform.architecture, platform.variant, platform.os_version,
          platform.os_features};
}

}  // namespace kiln::daemon::dockerfile
