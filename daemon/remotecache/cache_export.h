#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "daemon/remotecache/cache_config.h"
#include "daemon/remotecache/imported_graph.h"
#include "daemon/remotecache/key_walk.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// A layer of a cache, and where its bytes are: with `provider` when that is not null and the blob
// store has not got them, else where the layer store finds them.
struct CacheLayerBlob {
  store::LayerBlob blob;
  std::shared_ptr<CacheProvider> provider;
};

// A cache as it is to be stored. A plain value; equal builds give equal ones.
struct CacheExport {
  CacheConfig config;  // sorted
  // The blob of each layer of the config, in its order; a blob may be there several times.
  std::vector<CacheLayerBlob> layers;
};

// Gives the layers of results, lowest first; none for the empty tree. Thread-safe; may block.
class ResultLayers {
 public:
  virtual ~ResultLayers() = default;
  // kNotFound: the result or one of its layers is gone; or, without `make`, a layer has no blob
  // yet. Other errors fail the export.
  virtual absl::StatusOr<std::vector<CacheLayerBlob>> LayersOf(const KeyResult& result,
                                                               bool make) = 0;
};

enum class CacheMode {
  kMin,  // layers are made for the results that were asked for; others are given that exist
  kMax,  // layers of everything
};

// The layers of each key's best result; empty: none. Results are looked at in parallel. `on_layers`
// may be null.
absl::StatusOr<std::vector<std::vector<CacheLayerBlob>>> CollectLayers(
    absl::Span<const WalkedKey> keys, CacheMode mode, ResultLayers& layers,
    std::vector<absl::Time>* created_at);

// Everything that leads to results and the results' layers, in the order of BuildKit's.
absl::StatusOr<CacheExport> MakeCacheExport(absl::Span<const WalkedKey> keys, CacheMode mode,
                                            ResultLayers& layers);

// The records for an image whose layers are these, in the image config's form (4.4): results that
// consist of its layers are named by their places. Empty when no result does.
absl::StatusOr<std::string> MakeInlineCache(absl::Span<const WalkedKey> keys,
                                            absl::Span<const Digest> diff_ids,
                                            ResultLayers& layers);

}  // namespace kiln::daemon
