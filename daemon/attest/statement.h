#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/attest/attestation.h"
#include "daemon/image/platform.h"
#include "daemon/registry/reference.h"
#include "proto/digest.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// One predicate, read.
struct LoadedAttestation {
  std::string predicate_type;
  std::string predicate;  // JSON, compact; "null" when there is none
  std::string path;       // where the frontend had it; "" unless it was a file
  std::vector<Attestation::Subject> subjects;
  std::map<std::string, std::string> metadata;

  // An SBOM of the result itself, not of something that went into it.
  bool is_core_sbom() const;
};

// Reads attestations and takes bundles apart, core SBOMs first, else in their order.
// kInvalidArgument for what is no statement or no JSON, kResourceExhausted for a file above 40 MiB.
// Blocks.
absl::StatusOr<std::vector<LoadedAttestation>> LoadAttestations(
    const std::vector<Attestation>& attestations, const CancelToken& cancel);

// What a statement is about.
struct StatementSubject {
  std::string name;
  Digest digest;
};

// The in-toto statement (v1), compact. `self` is what an attestation without subjects of its own is
// about.
std::string StatementToJson(const LoadedAttestation& attestation,
                            const std::vector<StatementSubject>& self);

// The package URL of an image: "pkg:docker/app@1.0?platform=linux%2Famd64". `platform` may be null.
std::string ImagePurl(absl::string_view type, const Reference& reference, const Platform* platform);

}  // namespace kiln::daemon
