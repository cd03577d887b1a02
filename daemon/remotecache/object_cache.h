#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/remotecache/cache_objects.h"
#include "daemon/remotecache/cache_origins.h"
#include "daemon/remotecache/cache_target.h"
#include "store/blob_store.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// All outlive what is made with them.
struct ObjectCacheDeps {
  store::BlobStore* blobs = nullptr;
  store::LayerStore* layers = nullptr;
  CacheOrigins* origins = nullptr;
  std::string user_agent = "kiln";
};

// Caches in a CacheObjects (images-and-cache.md 4.9, 4.11): layers as blobs, then the config, whose
// layers say of themselves what a manifest would. `name` is that of its step; at most `parallel`
// layers are sent at a time.
std::unique_ptr<CacheTarget> NewObjectCacheTarget(const ObjectCacheDeps& deps, std::string name,
                                                  int parallel,
                                                  std::unique_ptr<CacheObjects> objects);
// Layers are fetched when they are needed, by way of CacheOrigins.
std::unique_ptr<CacheSource> NewObjectCacheSource(const ObjectCacheDeps& deps,
                                                  std::shared_ptr<CacheObjects> objects);

// The config with what is known of its layers.
std::string AnnotatedConfigJson(const CacheExport& cache);
// Reads one. Layers that do not say what they unpack to make their results unusable.
absl::StatusOr<ImportedConfig> ReadAnnotatedConfig(absl::string_view json);

}  // namespace kiln::daemon
