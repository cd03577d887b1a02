#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/digest.h"
#include "store/base/cancel.h"
#include "store/layer/descriptor.h"
#include "store/ref_store.h"

namespace kiln::store {

// One layer of an image: its stored bytes and the tree change that they are.
struct LayerBlob {
  Descriptor descriptor;  // of the stored, mostly compressed bytes
  Digest diff_id;         // sha256 of the uncompressed tar
  // Where the bytes can be had when the blob store has not got them: a name that the daemon's
  // LayerFetcher understands ("docker.io/library/busybox"). "": only in the blob store.
  std::string origin = {};
  absl::Time created_at = absl::InfinitePast();  // InfinitePast: not known
  std::string description = {};
  // Steps without changes, which have no layer, since the layer below; and of the last layer,
  // above.
  size_t steps_below = 0, steps_above = 0;
};

enum class Compression { kUncompressed, kGzip, kZstd, kEstargz };

// What an exporter wants layers to be (images-and-cache.md 2.5, 2.6).
struct LayerFormat {
  Compression compression = Compression::kGzip;
  std::optional<int> level = std::nullopt;  // nullopt: the type's default
  // Also layers that exist as blobs of another type are converted.
  bool force = false;
  // No layer is made: kNotFound when one has no blob yet. Blobs of any type will do.
  bool only_made = false;
  // Times later than this are set to it, in every layer from index `rewrite_from` on.
  std::optional<absl::Time> rewrite_timestamp = std::nullopt;
  size_t rewrite_from = 0;
};

// Brings the bytes of a lazy layer. Implemented by the daemon. Thread-safe.
class LayerFetcher {
 public:
  virtual ~LayerFetcher() = default;
  // Writes the bytes of `blob` from its origin to `sink`, in order, each once. They need not be
  // verified here. Goes on by itself after what breaks off; what it fails with is not tried again,
  // but for kAborted: what came was wrong and may be right another time. Blocks.
  virtual absl::Status Fetch(const LayerBlob& blob, const CancelToken& cancel,
                             const std::function<absl::Status(absl::string_view)>& sink) = 0;
};

// LayerStore is the bridge between trees (RefStore) and image layers (BlobStore).
//
// Thread-safe; every method may block on disk, network or CPU and honours `cancel`.
class LayerStore {
 public:
  virtual ~LayerStore() = default;

  // The tree of an image layer on top of `parent` (nullptr: nothing). Lazy: no byte is fetched
  // before Ref::Materialize, and then each blob once however many ask. An existing record with the
  // same parent chain and diff id is returned instead of a new one; `blob` is remembered with it as
  // one more way to have its bytes.
  virtual absl::StatusOr<RefPtr> AddLayer(RefPtr parent, const LayerBlob& blob,
                                          const RefOptions& options) = 0;

  // The tree as a list of layers, lowest first; empty for nullptr. Layers that have no blob yet are
  // made (tar of what changed, compressed as `format` says, held in the blob store for as long as
  // their record lives), in parallel, each once however many ask; a step without changes has no
  // layer. Blobs that stay lazy keep their origin and are not fetched. Byte-identical for equal
  // trees and formats, whatever the number of threads.
  virtual absl::StatusOr<std::vector<LayerBlob>> Layers(const RefPtr& ref,
                                                        const LayerFormat& format,
                                                        const CancelToken& cancel) = 0;

  // Makes sure that the bytes of a blob returned by Layers are in the blob store, held by `lease`.
  // Fetches at most once however many ask. kDataLoss when they are not what the descriptor says.
  virtual absl::Status Ensure(const LayerBlob& blob, absl::string_view lease,
                              const CancelToken& cancel) = 0;
};

}  // namespace kiln::store
