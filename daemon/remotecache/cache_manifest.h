#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/remotecache/cache_export.h"
#include "daemon/remotecache/imported_graph.h"
#include "store/layer/descriptor.h"

namespace kiln::daemon {

// How a cache is stored in a registry or OCI layout (4.3).
struct CacheManifestForm {
  bool oci_media_types = true;
  bool image_manifest = true;  // else an index whose last entry is the cache config
};

// A cache's small blobs.
struct CacheManifest {
  store::Descriptor descriptor;  // of `json`
  std::string json;
  store::Descriptor config;  // of `config_json`
  std::string config_json;
  // Of each blob once, as the manifest names them.
  std::vector<CacheLayerBlob> layers;
};

CacheManifest MakeCacheManifest(const CacheExport& cache, const CacheManifestForm& form);

// What a fetched manifest or index is.
struct FetchedManifest {
  // Set when it is a cache; else it may be an image, or an index of images, with caches inside.
  std::optional<store::Descriptor> config;
  std::vector<store::LayerBlob> layers;      // of a cache; those without a diff id left out
  std::vector<store::Descriptor> manifests;  // of an index that is no cache
  std::optional<store::Descriptor> image_config;
  std::vector<store::Descriptor> image_layers;  // of an image
};
// kInvalidArgument when it is neither. `origin` becomes that of the layers.
absl::StatusOr<FetchedManifest> ReadCacheManifest(absl::string_view json,
                                                  const std::string& origin);

// The cache inside an image (4.4), from its config and its manifest's layers. nullopt: there is
// none, or the image does not fit its config.
absl::StatusOr<std::optional<ImportedConfig>> ReadInlineCache(
    absl::string_view image_config, absl::Span<const store::Descriptor> layers,
    const std::string& origin);

}  // namespace kiln::daemon
