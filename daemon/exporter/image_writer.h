#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/exporter/blob_lease.h"
#include "daemon/exporter/exporter.h"
#include "daemon/exporter/image_options.h"
#include "daemon/image/manifest.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// An image that was put together: what it consists of, and where that is.
struct WrittenImage {
  ManifestEntry root;                             // as descriptors of it are given out
  std::optional<Digest> config;                   // of an image that is one manifest
  std::vector<store::Descriptor> manifests = {};  // children before parents, `root` last; stored
  std::vector<store::Descriptor> blobs = {};      // configs and attestations; stored
  // Each layer once, with the media type and the urls that manifests give it. Those with an origin
  // may not be stored.
  std::vector<store::LayerBlob> layers = {};
};

// Makes the layers, configs, manifests and the index of a result (images-and-cache.md 3.7 to 3.10).
// Thread-safe.
class ImageWriter {
 public:
  // Both outlive it.
  ImageWriter(store::LayerStore* layers, store::BlobStore* blobs)
      : layers_(layers), blobs_(blobs) {}

  // Everything new is stored and held by `lease`; layers that are lazy stay so. Blocks.
  absl::StatusOr<WrittenImage> Write(const ExportSource& source, const ImageOptions& options,
                                     const ImagePlan& plan, const ExportContext& context,
                                     BlobLease& lease);

  // Makes sure that the bytes of every layer are stored and held by `lease`. Blocks.
  absl::Status Complete(const WrittenImage& image, const BlobLease& lease,
                        const CancelToken& cancel);

  store::LayerStore* layers() const { return layers_; }
  store::BlobStore* blobs() const { return blobs_; }

 private:
  store::LayerStore* const layers_;
  store::BlobStore* const blobs_;
};

}  // namespace kiln::daemon
