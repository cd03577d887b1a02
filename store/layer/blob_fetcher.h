#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "store/base/cancel.h"
#include "store/base/named_locks.h"
#include "store/blob_store.h"
#include "store/layer/layer_store.h"

namespace kiln::store {

// Brings blobs into the blob store, each once however many ask. Thread-safe; blocks.
class BlobFetcher {
 public:
  // Both outlive this object; `fetcher` may be null: then only what is stored can be had.
  BlobFetcher(BlobStore* blobs, LayerFetcher* fetcher) : blobs_(blobs), fetcher_(fetcher) {}

  // The blob is stored and held by `lease` afterwards. `origins` are tried in turn. kNotFound when
  // it is neither stored nor has an origin; kDataLoss when no origin has the right bytes.
  absl::Status Ensure(const LayerBlob& blob, absl::Span<const std::string> origins,
                      absl::string_view lease, const CancelToken& cancel);

 private:
  absl::Status FetchFrom(const LayerBlob& blob, absl::string_view lease, const CancelToken& cancel);

  BlobStore* const blobs_;
  LayerFetcher* const fetcher_;
  NamedLocks under_way_;  // by digest
};

}  // namespace kiln::store
