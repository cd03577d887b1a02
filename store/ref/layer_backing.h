#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/base/cancel.h"
#include "store/checksum.h"
#include "store/database.h"
#include "store/tree.h"

namespace kiln::store {

// What may stand behind a snapshot besides its files: the image layer that it is made from, or that
// was made of it. Implemented by the layer store. Thread-safe.
class LayerBacking {
 public:
  virtual ~LayerBacking() = default;

  // Where the files of a lazy layer go.
  struct FillTarget {
    std::string files;    // an existing directory; holds the whole tree below unless `overlay`
    bool overlay = true;  // overlayfs form is wanted
    LayerRecorder* recorder = nullptr;
    // The layers below, waited for. Call it only when they are needed.
    std::function<absl::StatusOr<Layers>()> lower;
  };
  // Brings the files of the layer whose number is `snapshot`. After an error the caller removes
  // what was written. Blocks.
  virtual absl::Status Fill(uint64_t snapshot, const FillTarget& target,
                            const CancelToken& cancel) = 0;

  // Bytes that it takes on disk.
  virtual absl::StatusOr<int64_t> Bytes(uint64_t snapshot) = 0;

  // The snapshot goes: adds the deletion of its rows to `batch`; Erased follows when that is done.
  virtual absl::Status Erase(uint64_t snapshot, Batch& batch) = 0;
  virtual void Erased(uint64_t snapshot) = 0;
};

}  // namespace kiln::store
