#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/frontend/dockerfile/build_sources.h"
#include "daemon/frontend/dockerfile/compilation.h"
#include "daemon/frontend/dockerfile/image_lookup.h"
#include "daemon/frontend/dockerfile/options.h"

namespace kiln::daemon::dockerfile {

// The image for one platform.
struct PlatformBuild {
  std::unique_ptr<Compilation> compilation;
  std::string ref;
};

// Builds for every platform that is asked for, all at the same time, and puts the results together
// (dockerfile.md 8.1). Findings of the first platform go to `lint`. Everything given outlives the
// call. Blocks.
absl::StatusOr<BridgeResult> BuildPlatforms(BuildSources& sources, ImageLookup& images,
                                            const Options& options,
                                            const BuildSources::Dockerfile& dockerfile,
                                            Linter::Sink lint);

}  // namespace kiln::daemon::dockerfile
