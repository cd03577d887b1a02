#include "daemon/remotecache/object_cache.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "daemon/exporter/blob_lease.h"
#include "daemon/exporter/parallel.h"
#include "daemon/image/media_types.h"
#include "daemon/remotecache/imported_cache.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kChecksAtOnce = 4;
constexpr int64_t kMaxConfigBytes = 64 << 20;

class ObjectTarget : public CacheTarget {
 public:
  ObjectTarget(const ObjectCacheDeps& deps, std::string name, int parallel,
               std::unique_ptr<CacheObjects> objects)
      : deps_(deps), name_(std::move(name)), parallel_(parallel), objects_(std::move(objects)) {}

  const std::string& name() const override { return name_; }
  const store::LayerFormat& format() const override { return format_; }

  absl::StatusOr<std::map<std::string, std::string>> Send(const CacheExport& cache,
                                                          const CacheCall& call) override {
    std::vector<const CacheLayerBlob*> layers;
    absl::flat_hash_set<Digest> seen;
    for (const CacheLayerBlob& layer : cache.layers)
      if (seen.insert(layer.blob.descriptor.digest).second) layers.push_back(&layer);
    KILN_RETURN_IF_ERROR(RunParallel(layers.size(), static_cast<size_t>(parallel_), [&](size_t i) {
      if (call.cancel.Cancelled()) return call.cancel.status();
      return SendLayer(*layers[i], call);
    }));
    const TransferProgress step(*call.progress, "writing cache manifest", "");
    KILN_RETURN_IF_ERROR(objects_->PutConfig(AnnotatedConfigJson(cache), call.cancel));
    return std::map<std::string, std::string>();
  }

 private:
  absl::Status SendLayer(const CacheLayerBlob& layer, const CacheCall& call) {
    const store::Descriptor& blob = layer.blob.descriptor;
    KILN_ASSIGN_OR_RETURN(const bool there, objects_->KeepBlob(blob.digest, call.cancel));
    if (there) return absl::OkStatus();
    const TransferProgress step(*call.progress,
                                absl::StrCat("writing layer ", blob.digest.ToString()), "");
    const BlobLease lease(deps_.blobs);
    KILN_RETURN_IF_ERROR(
        EnsureLayer(layer, *deps_.blobs, *deps_.layers, lease.name(), call.cancel));
    CacheObject object;
    object.digest = blob.digest;
    KILN_ASSIGN_OR_RETURN(object.size_bytes, deps_.blobs->Size(blob.digest));
    object.read = [this, digest = blob.digest](int64_t offset, char* out, size_t size) {
      return deps_.blobs->ReadAt(digest, offset, absl::MakeSpan(out, size));
    };
    return objects_->PutBlob(object, call.cancel);
  }

  const ObjectCacheDeps deps_;
  const std::string name_;
  const int parallel_;
  const std::unique_ptr<CacheObjects> objects_;
  const store::LayerFormat format_;
};

class ObjectProvider : public CacheProvider {
 public:
  ObjectProvider(std::shared_ptr<CacheObjects> objects, store::BlobStore* blobs)
      : objects_(std::move(objects)), blobs_(*blobs) {}

  bool lazy() const override { return true; }

  absl::Status Check(absl::Span<const store::LayerBlob> layers,
                     const CancelToken& cancel) override {
    std::vector<Digest> unknown;
    {
      MutexLock lock(&mu_);
      for (const store::LayerBlob& layer : layers)
        if (!known_.contains(layer.descriptor.digest)) unknown.push_back(layer.descriptor.digest);
    }
    return RunParallel(unknown.size(), kChecksAtOnce, [&](size_t i) -> absl::Status {
      if (!blobs_.Size(unknown[i]).ok()) {
        KILN_ASSIGN_OR_RETURN(const bool has, objects_->HasBlob(unknown[i], cancel));
        if (!has)
          return absl::NotFoundError(
              absl::StrCat("layer ", unknown[i].ToString(), " is not in the cache any more"));
      }
      MutexLock lock(&mu_);
      known_.insert(unknown[i]);
      return absl::OkStatus();
    });
  }

  absl::Status Fetch(const store::Descriptor& blob, const CancelToken& cancel,
                     const std::function<absl::Status(absl::string_view)>& sink) override {
    return objects_->GetBlob(blob.digest, cancel, sink);
  }

 private:
  const std::shared_ptr<CacheObjects> objects_;
  store::BlobStore& blobs_;
  Mutex mu_;
  absl::flat_hash_set<Digest> known_ ABSL_GUARDED_BY(mu_);
};

class ObjectSource : public CacheSource {
 public:
  ObjectSource(const ObjectCacheDeps& deps, std::shared_ptr<CacheObjects> objects)
      : objects_(std::move(objects)), deps_(deps) {}

  const std::string& id() const override { return id_; }

  absl::StatusOr<std::vector<ImportedConfig>> Fetch(const CacheCall& call) override {
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> configs,
                          objects_->GetConfigs(kMaxConfigBytes, call.cancel));
    const auto provider = std::make_shared<ObjectProvider>(objects_, deps_.blobs);
    deps_.origins->Note(objects_);
    std::vector<ImportedConfig> found;
    for (const std::string& json : configs) {
      KILN_ASSIGN_OR_RETURN(ImportedConfig config, ReadAnnotatedConfig(json));
      for (auto& [digest, blob] : config.blobs) blob.origin = objects_->place();
      config.provider = provider;
      found.push_back(std::move(config));
    }
    return found;
  }

 private:
  const std::shared_ptr<CacheObjects> objects_;
  const ObjectCacheDeps deps_;
  const std::string id_;
};

}  // namespace

std::string AnnotatedConfigJson(const CacheExport& cache) {
  CacheConfig config = cache.config;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const store::LayerBlob& blob = cache.layers[i].blob;
    config.layers[i].annotations = {MediaTypes{}.Layer(blob.descriptor.media_type), blob.diff_id,
                                    blob.descriptor.size_bytes, blob.created_at};
  }
  return CacheConfigJson(config);
}

absl::StatusOr<ImportedConfig> ReadAnnotatedConfig(absl::string_view json) {
  ImportedConfig out;
  KILN_ASSIGN_OR_RETURN(out.config, ParseCacheConfig(json));
  for (const CacheConfig::Layer& layer : out.config.layers) {
    if (!layer.annotations.has_value() || !layer.annotations->diff_id.has_value()) continue;
    store::LayerBlob blob;
    blob.descriptor.media_type = MediaTypes{}.Layer(layer.annotations->media_type);
    blob.descriptor.digest = layer.blob;
    blob.descriptor.size_bytes = layer.annotations->size_bytes;
    blob.diff_id = *layer.annotations->diff_id;
    blob.created_at = layer.annotations->created_at;
    out.blobs.emplace(layer.blob, std::move(blob));
  }
  return out;
}

std::unique_ptr<CacheTarget> NewObjectCacheTarget(const ObjectCacheDeps& deps, std::string name,
                                                  int parallel,
                                                  std::unique_ptr<CacheObjects> objects) {
  return std::make_unique<ObjectTarget>(deps, std::move(name), parallel, std::move(objects));
}

std::unique_ptr<CacheSource> NewObjectCacheSource(const ObjectCacheDeps& deps,
                                                  std::shared_ptr<CacheObjects> objects) {
  return std::make_unique<ObjectSource>(deps, std::move(objects));
}

}  // namespace kiln::daemon
