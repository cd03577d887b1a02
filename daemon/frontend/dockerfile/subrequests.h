#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "daemon/frontend/dockerfile/build_sources.h"
#include "daemon/frontend/dockerfile/image_lookup.h"
#include "daemon/frontend/dockerfile/options.h"

namespace kiln::daemon::dockerfile {

// Answers a question about a Dockerfile in place of building it (dockerfile.md 4.8): outline,
// targets, lint, convertllb, and which of these there are. kUnimplemented with a typed detail for
// others. Blocks.
absl::StatusOr<BridgeResult> AnswerSubrequest(const std::string& id, BuildSources& sources,
                                              ImageLookup& images, const Options& options,
                                              const BuildSources::Dockerfile& dockerfile);

}  // namespace kiln::daemon::dockerfile
