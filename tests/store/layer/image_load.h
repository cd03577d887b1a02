#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/blob_store.h"
#include "store/layer/local_layer_store.h"
#include "tests/store/layer/tar_builder.h"

namespace kiln::store {

// Three images of three layers each, always the same; layers may be shared.
class FixedImages final : public LayerFetcher {
 public:
  static constexpr int kImages = 3, kLayers = 3;

  FixedImages() {
    for (int image = 0; image < kImages; ++image) {
      for (int layer = 0; layer < kLayers; ++layer) {
        TarBuilder tar;
        tar.Dir("d");
        const int of = layer == 0 ? 0 : image;  // one base for all
        for (int file = 0; file < 20; ++file)
          tar.File(absl::StrCat("d/", of, "-", layer, "-", file), std::string(3000, 'a' + of));
        if (layer == 2) tar.File(absl::StrCat("d/.wh.", of, "-1-0"), "");
        const std::string bytes = tar.Build();
        LayerBlob blob;
        blob.descriptor.media_type = kOciLayerTar;
        blob.descriptor.digest = blob.diff_id = Digest::Of(bytes);
        blob.descriptor.size_bytes = static_cast<int64_t>(bytes.size());
        blob.origin = "fixed";
        bytes_[blob.diff_id.ToString()] = bytes;
        blobs_.push_back(blob);
      }
    }
  }

  const LayerBlob& blob(int image, int layer) const {
    return blobs_[static_cast<size_t>(image * kLayers + layer)];
  }
  // How many files the tree of the first `layers` layers has.
  static int Files(int layers) { return 20 * layers - (layers == 3 ? 1 : 0); }

  absl::Status Fetch(const LayerBlob& blob, const CancelToken&,
                     const std::function<absl::Status(absl::string_view)>& sink) override {
    const std::string& bytes = bytes_.at(blob.descriptor.digest.ToString());
    for (auto at = size_t{0}; at < bytes.size(); at += 4096) {
      const absl::Status taken = sink(absl::string_view(bytes).substr(at, 4096));
      if (!taken.ok()) return taken;
    }
    return absl::OkStatus();
  }

 private:
  std::vector<LayerBlob> blobs_;
  std::map<std::string, std::string> bytes_;
};

}  // namespace kiln::store
