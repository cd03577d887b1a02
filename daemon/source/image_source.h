#pragma once

#include <memory>

#include "daemon/registry/image_reader.h"
#include "daemon/registry/layer_progress.h"
#include "daemon/source/source.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// "docker-image://…" and "oci-layout://…": the file system of an image (llb.md 2.1.1, 2.1.2).
//
// Key 0 names the root object and the platform, key 1 the chain of layers, so that an image that
// was built again to the same layers hits the same cache. The tree is lazy: manifest and config are
// read, layers are not.
class ImageSource : public Source {
 public:
  // All outlive it. `progress` (may be null) learns which steps show which layers.
  ImageSource(ImageReader* reader, store::LayerStore* layers, LayerProgress* progress = nullptr)
      : reader_(reader), layers_(layers), progress_(progress) {}

  bool Handles(absl::string_view scheme) const override {
    return scheme == "docker-image" || scheme == "oci-layout";
  }
  absl::StatusOr<std::shared_ptr<SourceInstance>> Resolve(const SourceSpec& spec) override;

 private:
  ImageReader* const reader_;
  store::LayerStore* const layers_;
  LayerProgress* const progress_;
};

}  // namespace kiln::daemon
