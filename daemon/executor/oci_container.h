#pragma once

#include <memory>

#include "daemon/executor/container.h"
#include "daemon/executor/oci_step.h"

namespace kiln::daemon {

// A container made by `run` with its first process, joined with `exec` by the others. `shared`
// outlives it.
std::unique_ptr<Container> MakeOciContainer(const OciShared* shared, ProcessSpec spec);

}  // namespace kiln::daemon
