#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/registry/reference.h"
#include "store/base/cancel.h"
#include "store/layer/descriptor.h"

namespace kiln::daemon {

// On whose behalf a registry is called, and how.
struct RegistryCall {
  std::vector<std::string> session_ids = {};  // asked for credentials, in turn; empty: anonymous
  bool insecure = false;  // exporter or cache attribute registry.insecure: plain http or any cert
  bool once = false;      // what fails is not repeated
  CancelToken cancel = {};
  // Told "error: …" and "retrying in …" lines; may be null.
  std::function<void(absl::string_view line)> log = {};
};

// A client for all OCI registries (images-and-cache.md 1.3 to 1.11). Thread-safe; blocking.
//
// What leaves it was verified against its digest; a stream of bytes ends with kDataLoss when it was
// not what its descriptor says. Errors name registry, repository, tag or digest, and reason:
// kUnauthenticated and kPermissionDenied for who asks, kNotFound for what is asked, kUnavailable
// for what may work later.
class Registry {
 public:
  virtual ~Registry() = default;

  // The root object that the reference names now. Uses mirrors.
  virtual absl::StatusOr<store::Descriptor> Resolve(const Reference& reference,
                                                    const RegistryCall& call) = 0;

  // A manifest, index or config, whole; kResourceExhausted above the limit of its kind.
  virtual absl::StatusOr<std::string> FetchSmall(const Reference& repository,
                                                 const store::Descriptor& descriptor,
                                                 const RegistryCall& call) = 0;

  // The index of the manifests that speak of `subject` (OCI distribution-spec, "Listing
  // Referrers"), from the registry's list or, where it keeps none, from the tag `sha256-<hex>`;
  // "": nothing does. The bytes prove nothing, what they name does. kResourceExhausted above 4 MiB.
  virtual absl::StatusOr<std::string> FetchReferrers(const Reference& repository,
                                                     const Digest& subject,
                                                     const RegistryCall& call) = 0;

  // The bytes of a blob from `offset` on, in order; resumes and retries by itself. A size that is
  // not known is what the server says. With an offset only the length is verified here: the digest
  // needs what came before. kAborted: the bytes were wrong and from a mirror, which is not asked
  // again: fetched anew they may be right.
  virtual absl::Status FetchBlob(const Reference& repository, const store::Descriptor& descriptor,
                                 int64_t offset, const RegistryCall& call,
                                 const std::function<absl::Status(absl::string_view)>& sink) = 0;

  // Whether the repository has the blob, without transferring it.
  virtual absl::StatusOr<bool> HasBlob(const Reference& repository,
                                       const store::Descriptor& descriptor,
                                       const RegistryCall& call) = 0;

  // How a blob got to where it was pushed.
  enum class PushOutcome { kExisted, kMounted, kUploaded };
  // Puts a blob into the repository: HEAD first, then a mount from `mount_from` ("" or another
  // repository of the same registry), then an upload. `open` gives a reader of the whole blob and
  // is called only when bytes must travel, again for each retry.
  using BlobReader = std::function<absl::StatusOr<size_t>(char* out, size_t size)>;  // 0: the end
  virtual absl::StatusOr<PushOutcome> PushBlob(
      const Reference& repository, const store::Descriptor& descriptor,
      const std::string& mount_from, const RegistryCall& call,
      const std::function<absl::StatusOr<BlobReader>()>& open,
      const std::function<void(int64_t sent)>& progress) = 0;

  // kUnlessThere asks first whether the name has that manifest already; kAtOnce does not: right
  // where it most likely is new, as some registries refuse to have a tag set twice.
  enum class PutManifest { kUnlessThere, kAtOnce };
  // Puts a manifest or index under the reference's tag, or under its digest when `by_digest`.
  virtual absl::Status PushManifest(const Reference& reference, const store::Descriptor& descriptor,
                                    absl::string_view bytes, bool by_digest, PutManifest put,
                                    const RegistryCall& call) = 0;
};

}  // namespace kiln::daemon
