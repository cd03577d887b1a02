#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/exporter/image_writer.h"
#include "daemon/registry/registry.h"
#include "proto/digest.h"
#include "store/base/mutex.h"
#include "store/base/named_locks.h"

namespace kiln::daemon {

struct PushRequest {
  std::string name;        // "app:v1"; with by_digest a name without tag
  bool by_digest = false;  // no tag is set
  RegistryCall call = {};
  // Told the bytes sent of all, from several threads, one at a time; may be null.
  std::function<void(int64_t sent, int64_t total)> progress = {};
};

// Uploads images: blobs in parallel, then manifests, children before parents, the root last.
// Layers that the registry has, there or in a repository they can be mounted from, are neither
// fetched nor sent. Pushes of one blob to one repository wait for each other, so it is sent once.
// Thread-safe.
class ImagePusher {
 public:
  // Both outlive it.
  ImagePusher(ImageWriter* writer, Registry* registry) : writer_(writer), registry_(registry) {}

  // `lease` holds layers that must be fetched to be sent. Errors begin with "failed to push NAME".
  absl::Status Push(const WrittenImage& image, const PushRequest& request, const BlobLease& lease);

 private:
  absl::Status PushAll(const WrittenImage& image, const PushRequest& request,
                       const BlobLease& lease);
  // The repository of `domain` that surely has the blob; "": none known.
  std::string MountFrom(const store::LayerBlob& layer, const Reference& target);
  void Remember(const Digest& digest, const Reference& target);

  ImageWriter* const writer_;
  Registry* const registry_;
  NamedLocks locks_;
  Mutex mu_;
  // (blob, domain) -> the repository it was last pushed to. Bounded; a restart forgets.
  std::map<std::pair<Digest, std::string>, std::string> pushed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
