#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/image/platform.h"
#include "proto/digest.h"
#include "store/layer/descriptor.h"

namespace kiln::daemon {

// What a verifier needs to judge where an image comes from: from the index that was named down to
// the signature of its attestations. A plain value.
struct AttestationChain {
  struct Blob {
    store::Descriptor descriptor;
    std::string bytes;
  };
  Digest root, image_manifest, attestation_manifest;  // the last is empty when there is none
  std::vector<Digest> signature_manifests;            // one at most
  // The root, the attestation and signature manifests, what the latter consist of, and the
  // statements that were asked for. Not the image's manifest, whose digest the root proves.
  std::map<Digest, Blob> blobs;
};

// Where the chain is read from.
struct AttestationReader {
  // An object whole, verified.
  std::function<absl::StatusOr<std::string>(const store::Descriptor&)> read;
  // Registry::FetchReferrers.
  std::function<absl::StatusOr<std::string>(const Digest& subject)> referrers;
};

// The chain of the platform's image below `root`, an index of OCI's. Statements are read whole when
// their predicate type is among `predicate_types`. An index without attestations is a chain that
// ends there. kFailedPrecondition: no image of the index is for the platform; kResourceExhausted:
// the chain goes past 12 MiB, more than a message takes. Blocks.
absl::StatusOr<std::shared_ptr<const AttestationChain>> ReadAttestationChain(
    const AttestationReader& from, const store::Descriptor& root, const Platform& platform,
    const std::vector<std::string>& predicate_types);

}  // namespace kiln::daemon
