#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "daemon/exporter/image_writer.h"
#include "daemon/exporter/seen_blobs.h"
#include "daemon/registry/registry.h"
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
// What was seen in a repository within the last minutes is not asked for again: when the registry
// then refuses a manifest, as it has collected a blob meanwhile, all is pushed anew with questions.
// Thread-safe.
class ImagePusher {
 public:
  // Both outlive it.
  ImagePusher(ImageWriter* writer, Registry* registry) : writer_(writer), registry_(registry) {}

  // `lease` holds layers that must be fetched to be sent. Errors begin with "failed to push NAME".
  absl::Status Push(const WrittenImage& image, const PushRequest& request, const BlobLease& lease);

 private:
  // Whether what was seen lately is taken to be there still.
  enum class Trust { kSeen, kNothing };
  // `trusted`: the manifests were sent with some question to the registry left out.
  absl::Status PushAll(const WrittenImage& image, const PushRequest& request,
                       const BlobLease& lease, Trust trust, bool* trusted);
  // A repository of the target's registry that surely had the blob; "": none known.
  std::string MountFrom(const store::LayerBlob& layer, const Reference& target) const;

  ImageWriter* const writer_;
  Registry* const registry_;
  NamedLocks locks_;
  SeenBlobs seen_;
};

}  // namespace kiln::daemon
