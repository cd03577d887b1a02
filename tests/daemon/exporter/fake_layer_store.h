#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/base/mutex.h"
#include "store/blob_store.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// A tree that has nothing but a name; its directory may be given.
class NamedRef : public store::Ref {
 public:
  explicit NamedRef(std::string id, store::Layers layers = {})
      : id_(std::move(id)), layers_(std::move(layers)) {}
  const std::string& id() const override { return id_; }
  absl::StatusOr<store::Layers> Materialize(const CancelToken&) const override { return layers_; }

 private:
  const std::string id_;
  const store::Layers layers_;
};

// Layers of trees as a test says: bytes are the layer's name, stored, or lazy with an origin.
class FakeLayerStore : public store::LayerStore {
 public:
  explicit FakeLayerStore(store::BlobStore* blobs) : blobs_(blobs) {}

  static std::string BytesOf(const std::string& name) { return "bytes of " + name; }
  static Digest DiffIdOf(const std::string& name) { return Digest::Of("tar of " + name); }

  // A layer on top of those that the tree has. `origin` makes it lazy.
  void Add(const std::string& ref, const std::string& name, const std::string& origin = "") {
    AddBytes(ref, name, BytesOf(name), origin);
  }
  void AddBytes(const std::string& ref, const std::string& name, const std::string& bytes,
                const std::string& origin = "") {
    store::LayerBlob layer;
    layer.descriptor.media_type = store::kOciLayerGzip;
    layer.descriptor.digest = Digest::Of(bytes);
    layer.descriptor.size_bytes = static_cast<int64_t>(bytes.size());
    layer.descriptor.annotations = {{"containerd.io/uncompressed", "x"},
                                    {"buildkit/createdat", "y"}};
    layer.diff_id = DiffIdOf(name);
    layer.origin = origin;
    layer.created_at = absl::FromUnixSeconds(1700000000);
    layer.description = "made " + name;
    contents_[layer.descriptor.digest] = bytes;
    if (origin.empty()) Store(layer, "records").IgnoreError();
    layers[ref].push_back(layer);
  }

  absl::StatusOr<store::RefPtr> AddLayer(store::RefPtr, const store::LayerBlob&,
                                         const store::RefOptions&) override {
    return absl::UnimplementedError("AddLayer");
  }
  absl::StatusOr<std::vector<store::LayerBlob>> Layers(const store::RefPtr& ref,
                                                       const store::LayerFormat& format,
                                                       const CancelToken& cancel) override {
    if (cancel.Cancelled()) return cancel.status();
    MutexLock lock(&mu_);
    formats.push_back(format);
    return ref == nullptr ? std::vector<store::LayerBlob>() : layers[ref->id()];
  }
  absl::Status Ensure(const store::LayerBlob& layer, absl::string_view lease,
                      const CancelToken&) override {
    MutexLock lock(&mu_);
    const absl::Status held = blobs_->Hold(lease, layer.descriptor.digest);
    if (!absl::IsNotFound(held)) return held;
    ++fetches;
    return Store(layer, std::string(lease));
  }

  std::map<std::string, std::vector<store::LayerBlob>> layers;  // by ref id
  std::vector<store::LayerFormat> formats;                      // that were asked for
  int fetches = 0;

 private:
  absl::Status Store(const store::LayerBlob& layer, const std::string& lease) {
    auto writer = blobs_->Ingest({layer.descriptor.digest, std::nullopt}, lease);
    if (absl::IsAlreadyExists(writer.status())) return absl::OkStatus();
    if (!writer.ok()) return writer.status();
    absl::Status status = (*writer)->Append(contents_[layer.descriptor.digest]);
    return status.ok() ? (*writer)->Commit().status() : status;
  }

  store::BlobStore* const blobs_;
  Mutex mu_;
  std::map<Digest, std::string> contents_;  // of every layer
};

}  // namespace kiln::daemon
