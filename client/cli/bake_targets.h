#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/bake/builds.h"
#include "client/bake/plan.h"
#include "client/cli/build_flags.h"

namespace kiln::client {

// One target of a plan, ready to be built.
struct BakeTarget {
  BuildFlags flags;
  std::unique_ptr<ImageLoader> loader;         // of an output into an engine of this machine
  std::unique_ptr<TextDockerfile> dockerfile;  // of dockerfile-inline
  bake::TargetBuild build;
};

// What `kiln build` would have been told for a target. kInvalidArgument names the attribute.
absl::StatusOr<BuildFlags> FlagsOf(const bake::Target& target);

// Refuses what docker refuses when it only prints a plan: secrets and SSH agents that are not
// there, outputs that cannot be, values that mean nothing. It leaves contexts, Dockerfiles, caches
// and names to the build. Errors name the target. Changes nothing. Blocks on files.
absl::Status CheckPlan(const bake::Plan& plan, bool stdout_is_terminal);

// Makes all targets of a plan ready. Entitlements that targets ask for must be in `allowed`.
// kInvalidArgument names the target.
absl::StatusOr<std::map<std::string, BakeTarget>> PrepareTargets(
    const bake::Plan& plan, const std::vector<std::string>& allowed, bool stdout_is_terminal);

}  // namespace kiln::client
