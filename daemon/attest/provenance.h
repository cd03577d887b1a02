#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/attest/attestation.h"
#include "daemon/attest/build_facts.h"
#include "daemon/attest/provenance_options.h"

namespace kiln::daemon {

// What is known of a build beside its definition. A plain value.
struct BuildRequest {
  std::string ref;       // the build's id
  std::string frontend;  // "": the client sent a definition
  std::map<std::string, std::string> opts;
  absl::Time started, finished;
  std::string builder_platform;  // "linux/amd64"
};

// The SLSA predicate of one platform's result, JSON. What the daemon cannot know is left out, and
// said to be incomplete. kFailedPrecondition, listing them, when complete-materials is asked for
// and some source is not pinned.
absl::StatusOr<std::string> ProvenancePredicate(const BuildRequest& request,
                                                const BuildFacts& facts,
                                                const ProvenanceOptions& options);

// The predicate as what exporters attach.
absl::StatusOr<Attestation> MakeProvenance(const BuildRequest& request, const BuildFacts& facts,
                                           const ProvenanceOptions& options);

}  // namespace kiln::daemon
