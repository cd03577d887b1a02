#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "daemon/exporter/image_pusher.h"
#include "daemon/registry/origin_sessions.h"
#include "daemon/registry/registry.h"
#include "daemon/remotecache/cache_attrs.h"
#include "daemon/remotecache/cache_target.h"
#include "store/blob_store.h"

namespace kiln::daemon {

// All outlive what is made with them.
struct RegistryCacheDeps {
  Registry* registry = nullptr;
  ImagePusher* pusher = nullptr;
  store::BlobStore* blobs = nullptr;
  // Told whose sessions may fetch imported layers, which the layer store does by itself when they
  // are needed. Null: it cannot, and layers are fetched when they are loaded.
  OriginSessions* origins = nullptr;
};

// Caches of type "registry" (images-and-cache.md 4.3, 4.4). kInvalidArgument for bad attributes.
absl::StatusOr<std::unique_ptr<CacheTarget>> NewRegistryCacheTarget(const RegistryCacheDeps& deps,
                                                                    const CacheAttrs& attrs);
absl::StatusOr<std::unique_ptr<CacheSource>> NewRegistryCacheSource(const RegistryCacheDeps& deps,
                                                                    const CacheAttrs& attrs);

}  // namespace kiln::daemon
