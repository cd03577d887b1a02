#include "daemon/remotecache/local_cache.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/exporter/blob_lease.h"
#include "daemon/image/manifest.h"
#include "daemon/remotecache/cache_manifest.h"
#include "daemon/remotecache/imported_cache.h"
#include "daemon/session/session_blob.h"
#include "daemon/session/session_content.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int64_t kMaxManifestBytes = 4 << 20;
constexpr int64_t kMaxConfigBytes = 64 << 20;

std::string StoreId(const std::string& folder) { return absl::StrCat("local:", folder); }

class LocalTarget : public CacheTarget {
 public:
  LocalTarget(const LocalCacheDeps& deps, std::string folder, CacheManifestForm form,
              store::LayerFormat format)
      : deps_(deps), store_id_(StoreId(folder)), form_(form), format_(format) {}

  const std::string& name() const override { return name_; }
  const store::LayerFormat& format() const override { return format_; }

  absl::StatusOr<std::map<std::string, std::string>> Send(const CacheExport& cache,
                                                          const CacheCall& call) override {
    const CacheManifest manifest = MakeCacheManifest(cache, form_);
    if (call.session_ids.empty())
      return absl::FailedPreconditionError("local cache exporter/importer requires session");
    KILN_ASSIGN_OR_RETURN(const SessionPtr session,
                          deps_.sessions->Get(call.session_ids.front(), call.cancel));
    BlobLease lease(deps_.blobs);
    for (const CacheLayerBlob& layer : manifest.layers) {
      KILN_RETURN_IF_ERROR(
          EnsureLayer(layer, *deps_.blobs, *deps_.layers, lease.name(), call.cancel));
      KILN_RETURN_IF_ERROR(Write(*session, layer.blob.descriptor, "layer", call));
    }
    for (const auto& [descriptor, json, what] :
         {std::tuple(manifest.config, manifest.config_json, "config"),
          std::tuple(manifest.descriptor, manifest.json, "cache manifest")}) {
      KILN_RETURN_IF_ERROR(lease.Put(json).status());
      KILN_RETURN_IF_ERROR(Write(*session, descriptor, what, call));
    }
    return std::map<std::string, std::string>{
        {"cache.manifest", DescriptorToJson({manifest.descriptor})}};
  }

 private:
  absl::Status Write(Session& session, const store::Descriptor& blob, const char* what,
                     const CacheCall& call) {
    const TransferProgress progress(
        *call.progress, absl::StrCat("writing ", what, " ", blob.digest.ToString()), "");
    return WriteSessionBlob(session, store_id_, *deps_.blobs, blob.digest, blob.size_bytes,
                            call.cancel);
  }

  const LocalCacheDeps deps_;
  const std::string name_ = "exporting cache to client directory";
  const std::string store_id_;
  const CacheManifestForm form_;
  const store::LayerFormat format_;
};

// Layers in a folder of the client: fetched when they are loaded, as the client may leave.
class SessionProvider : public CacheProvider {
 public:
  SessionProvider(const LocalCacheDeps& deps, std::string store_id,
                  std::vector<std::string> session_ids)
      : deps_(deps), store_id_(std::move(store_id)), session_ids_(std::move(session_ids)) {}

  bool lazy() const override { return false; }

  absl::Status Check(absl::Span<const store::LayerBlob> layers,
                     const CancelToken& cancel) override {
    return deps_.sessions->Any(session_ids_, cancel, [&](Session& session) -> absl::Status {
      for (const store::LayerBlob& layer : layers) {
        const Digest& digest = layer.descriptor.digest;
        if (deps_.blobs->Size(digest).ok()) continue;
        KILN_RETURN_IF_ERROR(SessionBlobSize(session, store_id_, digest, cancel).status());
      }
      return absl::OkStatus();
    });
  }

  absl::Status Fetch(const store::Descriptor& blob, const CancelToken& cancel,
                     const std::function<absl::Status(absl::string_view)>& sink) override {
    int64_t taken = 0;
    return deps_.sessions->Any(session_ids_, cancel, [&](Session& session) -> absl::Status {
      return ReadSessionBlob(session, store_id_, blob.digest, taken, cancel,
                             [&](absl::string_view bytes) {
                               taken += static_cast<int64_t>(bytes.size());
                               return sink(bytes);
                             });
    });
  }

  // A small blob, verified.
  absl::StatusOr<std::string> FetchSmall(const Digest& digest, int64_t limit,
                                         const CancelToken& cancel) {
    std::string bytes;
    KILN_RETURN_IF_ERROR(
        deps_.sessions->Any(session_ids_, cancel, [&](Session& session) -> absl::Status {
          bytes.clear();
          KILN_ASSIGN_OR_RETURN(const int64_t size,
                                SessionBlobSize(session, store_id_, digest, cancel));
          if (size > limit)
            return absl::ResourceExhaustedError(absl::StrCat(
                "blob ", digest.ToString(), " of ", size, " bytes; at most ", limit, " are read"));
          return ReadSessionBlob(session, store_id_, digest, 0, cancel,
                                 [&](absl::string_view part) -> absl::Status {
                                   if (static_cast<int64_t>(bytes.size() + part.size()) > size)
                                     return absl::DataLossError("more bytes than announced");
                                   bytes.append(part.data(), part.size());
                                   return absl::OkStatus();
                                 });
        }));
    if (Digest::Of(bytes) != digest)
      return absl::DataLossError(absl::StrCat("the client's blob ", digest.ToString(),
                                              " has the digest ", Digest::Of(bytes).ToString()));
    return bytes;
  }

 private:
  const LocalCacheDeps deps_;
  const std::string store_id_;
  const std::vector<std::string> session_ids_;
};

class LocalSource : public CacheSource {
 public:
  LocalSource(const LocalCacheDeps& deps, std::string folder, Digest digest)
      : deps_(deps),
        store_id_(StoreId(folder)),
        digest_(digest),
        id_(absl::StrCat("local:", digest.ToString())) {}

  const std::string& id() const override { return id_; }

  absl::StatusOr<std::vector<ImportedConfig>> Fetch(const CacheCall& call) override {
    const auto provider = std::make_shared<SessionProvider>(deps_, store_id_, call.session_ids);
    KILN_ASSIGN_OR_RETURN(const std::string json,
                          provider->FetchSmall(digest_, kMaxManifestBytes, call.cancel));
    KILN_ASSIGN_OR_RETURN(FetchedManifest manifest, ReadCacheManifest(json, ""));
    if (!manifest.config.has_value())
      return absl::InvalidArgumentError(absl::StrCat(id_, " is not a cache manifest"));
    KILN_ASSIGN_OR_RETURN(
        const std::string config,
        provider->FetchSmall(manifest.config->digest, kMaxConfigBytes, call.cancel));
    std::vector<ImportedConfig> found(1);
    KILN_ASSIGN_OR_RETURN(found[0].config, ParseCacheConfig(config));
    for (store::LayerBlob& layer : manifest.layers)
      found[0].blobs.emplace(layer.descriptor.digest, std::move(layer));
    found[0].provider = provider;
    return found;
  }

 private:
  const LocalCacheDeps deps_;
  const std::string store_id_;
  const Digest digest_;
  const std::string id_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CacheTarget>> NewLocalCacheTarget(const LocalCacheDeps& deps,
                                                                 const CacheAttrs& attrs) {
  std::string folder = CacheAttr(attrs, "dest");
  if (folder.empty()) return absl::InvalidArgumentError("local cache exporter requires dest");
  KILN_ASSIGN_OR_RETURN(const store::LayerFormat format, CacheLayerFormat(attrs));
  KILN_ASSIGN_OR_RETURN(const CacheManifestForm form, ManifestForm(attrs));
  return std::make_unique<LocalTarget>(deps, std::move(folder), form, format);
}

absl::StatusOr<std::unique_ptr<CacheSource>> NewLocalCacheSource(const LocalCacheDeps& deps,
                                                                 const CacheAttrs& attrs) {
  const std::string digest = CacheAttr(attrs, "digest");
  if (digest.empty())
    return absl::InvalidArgumentError("local cache importer requires explicit digest");
  std::string folder = CacheAttr(attrs, "src");
  if (folder.empty()) return absl::InvalidArgumentError("local cache importer requires src");
  KILN_ASSIGN_OR_RETURN(const Digest parsed, Digest::Parse(digest));
  return std::make_unique<LocalSource>(deps, std::move(folder), parsed);
}

}  // namespace kiln::daemon
