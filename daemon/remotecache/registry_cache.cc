#include "daemon/remotecache/registry_cache.h"

#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/exporter/blob_lease.h"
#include "daemon/exporter/parallel.h"
#include "daemon/image/manifest.h"
#include "daemon/image/media_types.h"
#include "daemon/remotecache/cache_manifest.h"
#include "daemon/remotecache/imported_cache.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kChecksAtOnce = 4;
constexpr size_t kMaxManifests = 256;  // of one index that is looked through for inline caches
constexpr int64_t kWarnBytes = 1 << 20;

RegistryCall CallFor(const CacheCall& call, bool insecure) {
  RegistryCall out;
  out.session_ids = call.session_ids;
  out.cancel = call.cancel;
  out.insecure = insecure;
  if (call.progress != nullptr)
    out.log = [progress = call.progress](absl::string_view line) {
      progress->Log({2, absl::StrCat(line, "\n"), absl::Now()});
    };
  return out;
}

absl::StatusOr<Reference> ParseRef(const CacheAttrs& attrs) {
  const std::string ref = CacheAttr(attrs, "ref");
  if (ref.empty()) return absl::InvalidArgumentError("missing ref");
  return Reference::ParseFamiliar(ref);
}

class RegistryTarget : public CacheTarget {
 public:
  RegistryTarget(const RegistryCacheDeps& deps, Reference ref, bool insecure,
                 CacheManifestForm form, store::LayerFormat format)
      : deps_(deps), ref_(std::move(ref)), insecure_(insecure), form_(form), format_(format) {}

  const std::string& name() const override { return name_; }
  const store::LayerFormat& format() const override { return format_; }

  absl::StatusOr<std::map<std::string, std::string>> Send(const CacheExport& cache,
                                                          const CacheCall& call) override {
    const CacheManifest manifest = MakeCacheManifest(cache, form_);
    const std::map<std::string, std::string> answer = {
        {"cache.manifest", DescriptorToJson({manifest.descriptor})}};
    if (static_cast<int64_t>(manifest.config_json.size()) > kWarnBytes ||
        static_cast<int64_t>(manifest.json.size()) > kWarnBytes)
      call.progress->Log(
          {2, "the cache is larger than 1 MiB: BuildKit will not read it\n", absl::Now()});
    // One HEAD tells that everything is there already.
    const RegistryCall registry_call = CallFor(call, insecure_);
    const auto there = deps_.registry->Resolve(ref_, registry_call);
    if (there.ok() && there->digest == manifest.descriptor.digest) return answer;

    BlobLease lease(deps_.blobs);
    WrittenImage image;
    image.root = {manifest.descriptor};
    KILN_RETURN_IF_ERROR(lease.Put(manifest.config_json).status());
    KILN_RETURN_IF_ERROR(lease.Put(manifest.json).status());
    image.blobs = {manifest.config};
    image.manifests = {manifest.descriptor};
    for (const CacheLayerBlob& layer : manifest.layers) {
      image.layers.push_back(layer.blob);
      if (layer.provider == nullptr) continue;
      KILN_ASSIGN_OR_RETURN(const bool has,
                            deps_.registry->HasBlob(ref_, layer.blob.descriptor, registry_call));
      if (!has)
        KILN_RETURN_IF_ERROR(FetchLayer(*layer.provider, layer.blob.descriptor, *deps_.blobs,
                                        lease.name(), call.cancel));
      image.layers.back().origin.clear();
    }
    PushRequest request;
    request.name = ref_.ToString();
    request.call = registry_call;
    TransferProgress progress(*call.progress, absl::StrCat("writing cache to ", request.name), "");
    request.progress = [&](int64_t sent, int64_t total) { progress.Update(sent, total); };
    KILN_RETURN_IF_ERROR(deps_.pusher->Push(image, request, lease));
    return answer;
  }

 private:
  const RegistryCacheDeps deps_;
  const std::string name_ = "exporting cache to registry";
  const Reference ref_;
  const bool insecure_;
  const CacheManifestForm form_;
  const store::LayerFormat format_;
};

// Layers in the repository that the cache was read from. They are lazy: the layer store fetches
// them when they are needed, from their origin.
class RegistryProvider : public CacheProvider {
 public:
  RegistryProvider(const RegistryCacheDeps& deps, Reference ref, RegistryCall call)
      : deps_(deps), ref_(std::move(ref)), call_(std::move(call)) {
    call_.log = nullptr;  // outlives the step
  }

  // What was allowed for this import alone is not allowed for later fetches of the layer store.
  bool lazy() const override { return deps_.origins != nullptr && !call_.insecure; }

  absl::Status Check(absl::Span<const store::LayerBlob> layers,
                     const CancelToken& cancel) override {
    std::vector<const store::Descriptor*> unknown;
    {
      MutexLock lock(&mu_);
      for (const store::LayerBlob& layer : layers)
        if (!known_.contains(layer.descriptor.digest)) unknown.push_back(&layer.descriptor);
    }
    return RunParallel(unknown.size(), kChecksAtOnce, [&](size_t i) -> absl::Status {
      const store::Descriptor& blob = *unknown[i];
      if (!deps_.blobs->Size(blob.digest).ok()) {
        RegistryCall call = call_;
        call.cancel = cancel;
        KILN_ASSIGN_OR_RETURN(const bool has, deps_.registry->HasBlob(ref_, blob, call));
        if (!has)
          return absl::NotFoundError(absl::StrCat("blob ", blob.digest.ToString(), " is not in ",
                                                  ref_.Repository(), " any more"));
      }
      MutexLock lock(&mu_);
      known_.insert(blob.digest);
      return absl::OkStatus();
    });
  }

  absl::Status Fetch(const store::Descriptor& blob, const CancelToken& cancel,
                     const std::function<absl::Status(absl::string_view)>& sink) override {
    RegistryCall call = call_;
    call.cancel = cancel;
    return deps_.registry->FetchBlob(ref_, blob, 0, call, sink);
  }

 private:
  const RegistryCacheDeps deps_;
  const Reference ref_;
  RegistryCall call_;
  Mutex mu_;
  absl::flat_hash_set<Digest> known_ ABSL_GUARDED_BY(mu_);
};

class RegistrySource : public CacheSource {
 public:
  RegistrySource(const RegistryCacheDeps& deps, Reference ref, bool insecure)
      : deps_(deps), ref_(std::move(ref)), insecure_(insecure), id_(ref_.ToString()) {}

  const std::string& id() const override { return id_; }

  absl::StatusOr<std::vector<ImportedConfig>> Fetch(const CacheCall& call) override {
    const RegistryCall registry_call = CallFor(call, insecure_);
    KILN_ASSIGN_OR_RETURN(const store::Descriptor root,
                          deps_.registry->Resolve(ref_, registry_call));
    const auto provider = std::make_shared<RegistryProvider>(deps_, ref_, registry_call);
    const std::string origin = ref_.Repository();
    if (provider->lazy()) deps_.origins->Note(origin, call.session_ids, call.cancel);
    std::vector<ImportedConfig> found;
    std::vector<store::Descriptor> manifests = {root};
    std::set<Digest> seen = {root.digest};
    for (size_t i = 0; i < manifests.size(); ++i) {
      KILN_ASSIGN_OR_RETURN(const std::string json,
                            deps_.registry->FetchSmall(ref_, manifests[i], registry_call));
      KILN_ASSIGN_OR_RETURN(FetchedManifest manifest, ReadCacheManifest(json, origin));
      ImportedConfig imported;
      if (manifest.config.has_value()) {
        KILN_ASSIGN_OR_RETURN(const std::string config,
                              deps_.registry->FetchSmall(ref_, *manifest.config, registry_call));
        KILN_ASSIGN_OR_RETURN(imported.config, ParseCacheConfig(config));
        for (store::LayerBlob& layer : manifest.layers)
          imported.blobs.emplace(layer.descriptor.digest, std::move(layer));
      } else if (manifest.image_config.has_value()) {
        if (manifest.image_layers.empty()) continue;
        KILN_ASSIGN_OR_RETURN(
            const std::string config,
            deps_.registry->FetchSmall(ref_, *manifest.image_config, registry_call));
        KILN_ASSIGN_OR_RETURN(std::optional<ImportedConfig> inside,
                              ReadInlineCache(config, manifest.image_layers, origin));
        if (!inside.has_value()) continue;
        imported = *std::move(inside);
      } else {
        for (const store::Descriptor& child : manifest.manifests) {
          if (!IsManifest(child.media_type) && !IsIndex(child.media_type)) continue;
          if (seen.insert(child.digest).second) manifests.push_back(child);
        }
        if (manifests.size() > kMaxManifests)
          return absl::ResourceExhaustedError(absl::StrCat(id_, " names more than ", kMaxManifests,
                                                           " manifests; as a cache it is refused"));
        continue;
      }
      imported.provider = provider;
      found.push_back(std::move(imported));
    }
    return found;
  }

 private:
  const RegistryCacheDeps deps_;
  const Reference ref_;
  const bool insecure_;
  const std::string id_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CacheTarget>> NewRegistryCacheTarget(const RegistryCacheDeps& deps,
                                                                    const CacheAttrs& attrs) {
  KILN_ASSIGN_OR_RETURN(const store::LayerFormat format, CacheLayerFormat(attrs));
  KILN_ASSIGN_OR_RETURN(Reference ref, ParseRef(attrs));
  KILN_ASSIGN_OR_RETURN(const CacheManifestForm form, ManifestForm(attrs));
  KILN_ASSIGN_OR_RETURN(const bool insecure, BoolCacheAttr(attrs, "registry.insecure", false));
  return std::make_unique<RegistryTarget>(deps, std::move(ref), insecure, form, format);
}

absl::StatusOr<std::unique_ptr<CacheSource>> NewRegistryCacheSource(const RegistryCacheDeps& deps,
                                                                    const CacheAttrs& attrs) {
  KILN_ASSIGN_OR_RETURN(Reference ref, ParseRef(attrs));
  KILN_ASSIGN_OR_RETURN(const bool insecure, BoolCacheAttr(attrs, "registry.insecure", false));
  return std::make_unique<RegistrySource>(deps, std::move(ref), insecure);
}

}  // namespace kiln::daemon
