#pragma once

#include <map>
#include <set>
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
// O(bytes of the result's definitions). Immutable.
class BuildProvenance {
 public:
  // Takes from the build what it needs, while its bridge is open. `pins` may be null, or outlives
  // it.
  static absl::StatusOr<BuildProvenance> Of(const Build& build, const BridgeResult& result,
                                            const SourcePins* pins);

  // Adds what the options of the frontend ask for.
  absl::Status Attach(ExportSource* source) const;

  // SLSA v1 predicates with all that is known, JSON, which the history keeps of every build: by
  // platform id, or "" for a result that is no map.
  absl::StatusOr<std::map<std::string, std::string>> ForHistory() const;

 private:
  BuildProvenance() = default;
  absl::StatusOr<BuildFacts> Facts(const std::string& definition) const;

  BuildRequest request_;
  bool is_map_ = false;
  // Of the trees, by platform id; "" when the result is no map. An empty tree has an empty one.
  std::map<std::string, std::string> definitions_;
  std::set<std::string> tags_;
  const SourcePins* pins_ = nullptr;
};

}  // namespace kiln::daemon
