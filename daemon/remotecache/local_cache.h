#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "daemon/remotecache/cache_attrs.h"
#include "daemon/remotecache/cache_target.h"
#include "daemon/session/session.h"
#include "store/blob_store.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// All outlive what is made with them.
struct LocalCacheDeps {
  SessionFinder* sessions = nullptr;
  store::BlobStore* blobs = nullptr;
  store::LayerStore* layers = nullptr;
};

// Caches of type "local": an OCI layout of the client, reached through the content stores of its
// session (images-and-cache.md 4.5). kInvalidArgument for bad attributes.
absl::StatusOr<std::unique_ptr<CacheTarget>> NewLocalCacheTarget(const LocalCacheDeps& deps,
                                                                 const CacheAttrs& attrs);
absl::StatusOr<std::unique_ptr<CacheSource>> NewLocalCacheSource(const LocalCacheDeps& deps,
                                                                 const CacheAttrs& attrs);

}  // namespace kiln::daemon
