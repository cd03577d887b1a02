#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/remotecache/cache_export.h"
#include "daemon/remotecache/cache_manifest.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

using CacheAttrs = std::map<std::string, std::string>;

// One entry of SolveRequest.Cache.
struct CacheRequest {
  std::string type;
  CacheAttrs attrs;

  friend bool operator==(const CacheRequest& a, const CacheRequest& b) {
    return a.type == b.type && a.attrs == b.attrs;
  }
};

// What all exports have (images-and-cache.md 4.1). Unknown texts mean the default, as in BuildKit.
struct CommonCacheOptions {
  CacheMode mode = CacheMode::kMin;
  bool ignore_error = false;
};
CommonCacheOptions CommonOptions(const CacheAttrs& attrs);

// "" when absent.
std::string CacheAttr(const CacheAttrs& attrs, const std::string& key);
// A bool attribute; kInvalidArgument "failed to parse KEY".
absl::StatusOr<bool> BoolCacheAttr(const CacheAttrs& attrs, const std::string& key, bool otherwise);

// compression, compression-level, force-compression. kInvalidArgument names the attribute.
absl::StatusOr<store::LayerFormat> CacheLayerFormat(const CacheAttrs& attrs);
// oci-mediatypes, image-manifest.
absl::StatusOr<CacheManifestForm> ManifestForm(const CacheAttrs& attrs);

}  // namespace kiln::daemon
