#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/remotecache/cache_objects.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// Brings lazy layers of imported caches that are no repositories: their origin is the place of a
// CacheObjects, with "://" in it, as no repository has. They are read with what the builds under
// way opened that place with, so credentials live no longer than their build. Thread-safe.
class CacheOrigins final : public store::LayerFetcher {
 public:
  // `others` fetches from all other origins, and outlives it.
  explicit CacheOrigins(store::LayerFetcher* others) : others_(others) {}

  // The place can be read with these, for as long as somebody else holds them.
  void Note(const std::shared_ptr<CacheObjects>& objects);

  // From `offset` on; what is before it is fetched, too, but dropped. kFailedPrecondition when no
  // build that opened the place is under way.
  absl::Status Fetch(const store::LayerBlob& blob, const CancelToken& cancel,
                     const std::function<absl::Status(absl::string_view)>& sink) override;

 private:
  store::LayerFetcher* const others_;
  Mutex mu_;
  // The latest last; those whose builds ended go when somebody opens a place.
  std::map<std::string, std::vector<std::weak_ptr<CacheObjects>>> by_place_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
