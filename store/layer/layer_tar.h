#pragma once

#include <functional>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/base/cancel.h"
#include "store/layer/byte_stream.h"
#include "store/snapshot/changes.h"
#include "store/tree.h"

namespace kiln::store {

struct LayerTarOptions {
  // Later times are set to it (rewrite-timestamp).
  std::optional<absl::Time> clamp = std::nullopt;
  CancelToken cancel = {};
};

// Writes the changes from `lower` to `upper` as the tar of an image layer (images-and-cache.md 2.2,
// 2.3). Equal trees give equal bytes. `diff` as for TreeChanges; its report_links is set here.
//
// False: nothing changed, and nothing was written: such a change has no layer.
// kDataLoss: a file has not the bytes that its size promises.
absl::StatusOr<bool> WriteLayerTar(const TreeReader& lower, const TreeReader& upper,
                                   DiffOptions diff, const LayerTarOptions& options,
                                   const ByteSink& sink);

}  // namespace kiln::store
