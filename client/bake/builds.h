#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "client/connection.h"
#include "client/progress/progress.h"
#include "client/solve/solve.h"
#include "store/base/cancel.h"

namespace kiln::client::bake {

struct TargetBuild {
  SolveOptions options;
  std::map<std::string, std::string> links;  // named context → target
};

inline constexpr size_t kMaxTargets = 500;  // each has a session, and threads, of its own

// Builds all targets at once on one daemon, which runs what they share once. The first failure
// cancels the others, and is returned with the target's name. Blocking.
absl::StatusOr<std::map<std::string, SolveResult>> BuildTargets(
    const Connection& connection, std::map<std::string, TargetBuild> builds,
    const CancelToken& cancel, ProgressSink* sink);

}  // namespace kiln::client::bake
