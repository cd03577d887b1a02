#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/remotecache/cache_export.h"
#include "daemon/remotecache/imported_graph.h"
#include "solver/op.h"
#include "store/base/cancel.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// On whose behalf caches are read and written.
struct CacheCall {
  std::vector<std::string> session_ids;
  CancelToken cancel;
  solver::ProgressSink* progress = nullptr;  // of the cache's step
};

// Where one build's cache goes. Configured and checked before the build; Send runs once.
class CacheTarget {
 public:
  virtual ~CacheTarget() = default;
  // Of its step in the status stream.
  virtual const std::string& name() const = 0;
  // How layers that it makes are compressed.
  virtual const store::LayerFormat& format() const = 0;
  // Stores the cache, which has layers. The answer goes into the exporter response. Blocks.
  virtual absl::StatusOr<std::map<std::string, std::string>> Send(const CacheExport& cache,
                                                                  const CacheCall& call) = 0;
};

// Where a cache comes from. Fetch runs once.
class CacheSource {
 public:
  virtual ~CacheSource() = default;
  // As the status stream names it.
  virtual const std::string& id() const = 0;
  // The caches that are there; none is no error. Blocks.
  virtual absl::StatusOr<std::vector<ImportedConfig>> Fetch(const CacheCall& call) = 0;
};

}  // namespace kiln::daemon
