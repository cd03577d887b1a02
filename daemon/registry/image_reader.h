#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/image/platform.h"
#include "daemon/image/read_manifest.h"
#include "daemon/registry/image_resolver.h"
#include "daemon/registry/origin_sessions.h"
#include "daemon/registry/reference.h"
#include "daemon/registry/registry.h"
#include "daemon/session/session.h"
#include "solver/op.h"
#include "store/base/mutex.h"
#include "store/base/named_locks.h"
#include "store/layer/descriptor.h"

namespace kiln::daemon {

// Where an image is: in a registry, or in a content store of a client.
struct ImageLocation {
  Reference reference;
  bool oci_layout = false;
  std::string store_id = {}, store_session_id = {};  // of a layout; the session may be ""

  // Names the place that the image's blobs come from, for LayerBlob::origin: the repository, or
  // "oci-layout:<store>".
  std::string Origin() const;
  // The sessions that may be asked: the layout's own one first.
  std::vector<std::string> Sessions(const std::vector<std::string>& of_the_build) const;
};

// The image of one platform.
struct ChosenImage {
  std::string config;  // JSON, as it is stored
  ReadConfig facts;
  std::vector<store::Descriptor> layers;  // lowest first, types in OCI's words
};
using ChosenImagePtr = std::shared_ptr<const ChosenImage>;

// Reads what images consist of, up to their layers. Thread-safe; blocking.
//
// Manifests and configs of registries are kept in memory, by repository and digest, up to 32 MiB:
// asking again for what did not change costs one HEAD request, or none for a digest.
class ImageReader final : public ImageResolver {
 public:
  // All outlive it.
  ImageReader(Registry* registry, SessionFinder* sessions, OriginSessions* origins)
      : registry_(registry), sessions_(sessions), origins_(origins) {}

  // The root object that the location names now; the same for the whole job (which may be null).
  absl::StatusOr<store::Descriptor> Root(const ImageLocation& location, const RegistryCall& call,
                                         solver::JobValues* job);

  // The best image for the platform below `root`. kFailedPrecondition names the platform when there
  // is none.
  absl::StatusOr<ChosenImagePtr> Choose(const ImageLocation& location,
                                        const store::Descriptor& root, const Platform& platform,
                                        const RegistryCall& call);

  absl::StatusOr<ResolvedImage> Resolve(const ImageQuery& query, solver::JobValues* job,
                                        const CancelToken& cancel) override;
  absl::Status ResolveAhead(const std::string& reference, solver::JobValues& job,
                            const CancelToken& cancel) override;

 private:
  struct Kept {
    std::string media_type, bytes;
    std::list<std::string>::iterator use;  // in uses_
  };

  absl::StatusOr<store::Descriptor> FindRoot(const ImageLocation& location,
                                             const RegistryCall& call);
  // Once for the job.
  absl::StatusOr<store::Descriptor> RootOfJob(const ImageLocation& location,
                                              const RegistryCall& call, solver::JobValues& job);
  // An object whole, verified.
  absl::StatusOr<std::string> Read(const ImageLocation& location,
                                   const store::Descriptor& descriptor, const RegistryCall& call);
  absl::StatusOr<std::string> ReadLayout(const ImageLocation& location,
                                         const store::Descriptor& descriptor, int64_t limit,
                                         const RegistryCall& call);
  absl::StatusOr<ChosenImagePtr> ChooseBelow(const ImageLocation& location,
                                             const store::Descriptor& descriptor,
                                             const PlatformMatcher& matcher, bool check_config,
                                             int depth, const RegistryCall& call);
  // Null when `matcher` (null: not asked) does not take it.
  absl::StatusOr<ChosenImagePtr> ReadImage(const ImageLocation& location,
                                           const ReadManifest& manifest,
                                           const PlatformMatcher* matcher,
                                           const RegistryCall& call);

  bool FindKept(const std::string& key, std::string* media_type, std::string* bytes);
  void Keep(const std::string& key, const std::string& media_type, const std::string& bytes);

  Registry* const registry_;
  SessionFinder* const sessions_;
  OriginSessions* const origins_;
  NamedLocks reading_;  // one read of each object at a time
  Mutex mu_;
  std::map<std::string, Kept> kept_ ABSL_GUARDED_BY(mu_);
  std::list<std::string> uses_ ABSL_GUARDED_BY(mu_);  // keys, latest first
  size_t kept_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace kiln::daemon
