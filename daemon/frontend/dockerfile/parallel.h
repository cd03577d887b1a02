#pragma once

#include <functional>
#include <vector>

#include "absl/status/status.h"

namespace kiln::daemon::dockerfile {

// Runs blocking tasks at the same time, on at most 16 threads, and waits for all. The first task
// that failed, in the order given, decides. Tasks must not throw.
absl::Status RunInParallel(const std::vector<std::function<absl::Status()>>& tasks);

}  // namespace kiln::daemon::dockerfile
