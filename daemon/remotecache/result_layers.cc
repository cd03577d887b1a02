#include "daemon/remotecache/result_layers.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/ops/ref_result.h"
#include "daemon/remotecache/imported_cache.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

class Layers : public ResultLayers {
 public:
  Layers(solver::ResultLoader* loader, store::LayerStore* layers, const store::LayerFormat& format,
         CancelToken cancel)
      : loader_(*loader), layers_(*layers), format_(format), cancel_(std::move(cancel)) {}

  absl::StatusOr<std::vector<CacheLayerBlob>> LayersOf(const KeyResult& result,
                                                       bool make) override {
    if (cancel_.Cancelled()) return cancel_.status();
    if (!result.loaded && result.imports != nullptr && (!format_.force || !make))
      return Imported(result);
    KILN_ASSIGN_OR_RETURN(const solver::ResultPtr tree, Load(result));
    store::LayerFormat format = format_;
    format.only_made = !make;
    KILN_ASSIGN_OR_RETURN(std::vector<store::LayerBlob> blobs,
                          layers_.Layers(RefOf(tree), format, cancel_));
    std::vector<CacheLayerBlob> out;
    for (store::LayerBlob& blob : blobs) out.push_back({std::move(blob), nullptr});
    return out;
  }

 private:
  // A result that cannot be loaded is gone.
  absl::StatusOr<solver::ResultPtr> Load(const KeyResult& result) {
    if (result.loaded) return result.result;
    absl::StatusOr<solver::ResultPtr> loaded =
        result.imports != nullptr ? result.imports->Load(result.id) : loader_.Load(result.id);
    if (loaded.ok() || cancel_.Cancelled()) return loaded;
    return absl::NotFoundError(loaded.status().message());
  }

  absl::StatusOr<std::vector<CacheLayerBlob>> Imported(const KeyResult& result) {
    const auto* cache = dynamic_cast<const ImportedCache*>(result.imports.get());
    const ImportedGraph::Result* found = cache == nullptr ? nullptr : cache->Find(result.id);
    if (found == nullptr) return absl::NotFoundError(absl::StrCat(result.id, " is gone"));
    KILN_RETURN_IF_ERROR(found->provider->Check(found->layers, cancel_));
    std::vector<CacheLayerBlob> out;
    for (const store::LayerBlob& blob : found->layers)
      out.push_back({blob, found->provider->lazy() ? nullptr : found->provider});
    return out;
  }

  solver::ResultLoader& loader_;
  store::LayerStore& layers_;
  const store::LayerFormat format_;
  const CancelToken cancel_;
};

}  // namespace

std::unique_ptr<ResultLayers> NewResultLayers(solver::ResultLoader* loader,
                                              store::LayerStore* layers,
                                              const store::LayerFormat& format,
                                              CancelToken cancel) {
  return std::make_unique<Layers>(loader, layers, format, std::move(cancel));
}

}  // namespace kiln::daemon
