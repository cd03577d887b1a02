#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/exporter/exporter.h"
#include "solver/solver.h"
#include "store/layer/descriptor.h"

namespace kiln::daemon {

// What the exporters of one build have made, together.
struct ExportsAnswer {
  std::map<std::string, std::string> response;  // of all; of equal keys the last exporter's
  std::map<int, store::Descriptor> roots;       // of images, by the exporter's index
  std::vector<std::shared_ptr<void>> holds;     // keep the blobs of `roots`
};

// Runs the exporters of a build in parallel, each as a step of the job, then in parallel what they
// left to do (pushes). `context` is what they share; index and progress are set for each. The first
// failure cancels the others and is returned. Blocks.
absl::StatusOr<ExportsAnswer> RunExports(solver::Job& job,
                                         const std::vector<std::unique_ptr<Exporter>>& exporters,
                                         const ExportSource& source, const ExportContext& context);

}  // namespace kiln::daemon
