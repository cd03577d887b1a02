#pragma once

#include <memory>

#include "daemon/remotecache/cache_export.h"
#include "solver/op.h"
#include "store/base/cancel.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// The layers of results of this daemon and of its imported caches. `loader` and `layers` outlive
// it. Imported layers are taken as they are, without making a tree of them, unless `format` wants
// them in another form.
std::unique_ptr<ResultLayers> NewResultLayers(solver::ResultLoader* loader,
                                              store::LayerStore* layers,
                                              const store::LayerFormat& format, CancelToken cancel);

}  // namespace kiln::daemon
