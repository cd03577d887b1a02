#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/attest/build_facts.h"
#include "daemon/attest/provenance.h"
#include "daemon/attest/source_pins.h"
#include "daemon/control/build.h"
#include "daemon/exporter/exporter.h"
#include "daemon/gateway/bridge.h"

namespace kiln::daemon {

// The provenance of a build whose result was evaluated (images-and-cache.md 3.12). Blocks no one;
// O(bytes of the result's definitions).
class BuildProvenance {
 public:
  // `pins` may be null. All of them outlive it.
  BuildProvenance(const Build& build, const BridgeResult& result, const SourcePins* pins)
      : build_(build), result_(result), pins_(pins) {}

  // Adds what the options of the frontend ask for.
  absl::Status Attach(ExportSource* source) const;

  // SLSA v1 predicates with all that is known, JSON, which the history keeps of every build: by
  // platform id, or "" for a result that is no map.
  absl::StatusOr<std::map<std::string, std::string>> ForHistory() const;

 private:
  // What was asked of the frontend, wherever it runs.
  FrontendCall TopFrontend() const;
  BuildRequest Request(FrontendCall call) const;
  absl::StatusOr<BuildFacts> Facts(const std::string& ref) const;

  const Build& build_;
  const BridgeResult& result_;
  const SourcePins* const pins_;
};

}  // namespace kiln::daemon
