#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "daemon/exporter/blob_lease.h"
#include "proto/digest.h"
#include "store/base/cancel.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// Which layer of an image brought a file. Layers are read from the newest down, each at most once
// and only when the ones above have not got the file. Not thread-safe.
class LayerFiles {
 public:
  // The store and the lease outlive it.
  LayerFiles(store::LayerStore* store, const BlobLease* lease, std::vector<store::LayerBlob> layers)
      : store_(store), lease_(lease), unread_(std::move(layers)) {}

  // The newest layer that has `path` as a file or directory, even if a later one removes it;
  // nullopt when none has. Fetches what is lazy. Blocks.
  absl::StatusOr<std::optional<Digest>> Find(const std::string& path, const CancelToken& cancel);

 private:
  absl::Status ReadNewest(const CancelToken& cancel);

  store::LayerStore* const store_;
  const BlobLease* const lease_;
  std::vector<store::LayerBlob> unread_;  // lowest first
  std::vector<Digest> read_;
  absl::flat_hash_map<std::string, size_t> found_;  // clean path -> index into read_
};

}  // namespace kiln::daemon
