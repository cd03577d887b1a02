#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/registry/attestation_chain.h"
#include "proto/digest.h"
#include "solver/op.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// What to resolve, and on whose behalf.
struct ImageQuery {
  std::string reference = {};     // as written after docker-image:// or oci-layout://
  std::string platform = {};      // "os/arch[/variant]"; "": the host's
  std::string resolve_mode = {};  // "", "default", "pull", "local"
  bool oci_layout = false;        // `reference` is in a client's content store
  std::string store_id = {}, store_session_id = {};  // of an OCI layout; the session may be ""
  bool no_config = false;                            // the root only: no platform is looked for
  bool attestation_chain = false;                    // of images in registries
  // The statements of the chain to read whole: "https://slsa.dev/provenance/v1".
  std::vector<std::string> predicate_types = {};
  std::vector<std::string> session_ids = {};  // asked for credentials and layouts, in turn
  std::function<void(absl::string_view line)> log = {};  // "retrying in …" lines; may be null
};

struct ResolvedImage {
  std::string reference;  // normalized
  Digest digest;          // of the root object: an index, or the manifest itself
  std::string config;     // the config of the platform's image, JSON as it is stored
  // Null: not asked for, or the root is no index of OCI's.
  std::shared_ptr<const AttestationChain> attestations = nullptr;
};

// Finds out what images are now, for frontends. Layers are not looked at. Thread-safe.
class ImageResolver {
 public:
  virtual ~ImageResolver() = default;

  // Each (reference, platform, mode, layout) is resolved once for a job, however many ask at the
  // same time; `job` may be null. kNotFound when the registry has no such image, kInvalidArgument
  // for a malformed reference, platform or mode, kFailedPrecondition when no image of the index is
  // for the platform. Blocks.
  virtual absl::StatusOr<ResolvedImage> Resolve(const ImageQuery& query, solver::JobValues* job,
                                                const CancelToken& cancel) = 0;
  // Finds out what the name stands for, for a Resolve of the same job that may follow. Asks no
  // session for credentials, and does not repeat what fails. Blocks.
  virtual absl::Status ResolveAhead(const std::string& reference, solver::JobValues& job,
                                    const CancelToken& cancel) = 0;
};

}  // namespace kiln::daemon
