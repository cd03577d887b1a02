#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "store/base/mutex.h"
#include "store/base/named_locks.h"
#include "store/base/thread_pool.h"
#include "store/blob_store.h"
#include "store/database.h"
#include "store/layer/blob_fetcher.h"
#include "store/layer/compression_budget.h"
#include "store/layer/layer_row.h"
#include "store/layer/layer_store.h"
#include "store/layer/layer_unpacker.h"
#include "store/ref/layer_backing.h"
#include "store/ref/local_ref_store.h"

namespace kiln::store {

// Told when a layer begins to be unpacked, and where it may be from; what it gives is dropped at
// the end.
using UnpackWatch =
    std::function<std::shared_ptr<void>(const Digest& blob, absl::Span<const std::string> origins)>;

struct LocalLayerStoreOptions {
  const Root* root = nullptr;  // the first four must be set, and outlive the store
  Database* database = nullptr;
  LocalRefStore* refs = nullptr;
  BlobStore* blobs = nullptr;
  LayerFetcher* fetcher = nullptr;      // null: nothing is fetched
  CompressionBudget* budget = nullptr;  // null: that of the process
  UnpackLimits limits = {};             // max_bytes is cut to what the disk has free
  UnpackWatch unpacking = {};           // may be null
};

// LayerStore over LocalRefStore and BlobStore: see DESIGN.md, Layers, for rows and leases.
class LocalLayerStore final : public LayerStore, private LayerBacking {
 public:
  explicit LocalLayerStore(const LocalLayerStoreOptions& options);
  // Lazy layers can no longer be asked for; `refs` may live on.
  ~LocalLayerStore() override;

  absl::StatusOr<RefPtr> AddLayer(RefPtr parent, const LayerBlob& blob,
                                  const RefOptions& options) override;
  absl::StatusOr<std::vector<LayerBlob>> Layers(const RefPtr& ref, const LayerFormat& format,
                                                const CancelToken& cancel) override;
  absl::Status Ensure(const LayerBlob& blob, absl::string_view lease,
                      const CancelToken& cancel) override;

  // Drops rows and leases of snapshots that are no more, as a kill may leave them. O(layers): call
  // it off the path of a start.
  absl::Status Sweep();

  // Blobs made so far, for tests and metrics.
  int64_t blobs_made() const { return blobs_made_.load(std::memory_order_relaxed); }

 private:
  using LayerRow = internal::LayerRow;
  using LayerVariant = internal::LayerVariant;
  using Step = LocalRefStore::Step;
  // What one layer shall be.
  struct Want {
    Compression compression;
    std::optional<int> level;
    bool force;
    std::optional<absl::Time> clamp;
    bool only_made = false;  // kNotFound instead of making it
  };

  // LayerBacking
  absl::Status Fill(uint64_t snapshot, const FillTarget& target,
                    const CancelToken& cancel) override;
  absl::StatusOr<int64_t> Bytes(uint64_t snapshot) override;
  absl::Status Erase(uint64_t snapshot, Batch& batch) override;
  void Erased(uint64_t snapshot) override;

  absl::StatusOr<LayerRow> ReadRow(uint64_t snapshot, uint64_t base) const;
  absl::Status WriteRow(uint64_t snapshot, uint64_t base, const LayerRow& row);
  absl::StatusOr<std::string> ChainKey(const RefPtr& parent, const Digest& diff_id);
  absl::Status Remember(const Step& step, const LayerBlob& blob);

  // The layer of a step; nullopt when it changes nothing.
  absl::StatusOr<std::optional<LayerBlob>> LayerOf(const Step& step, const Want& want,
                                                   const CancelToken& cancel);
  absl::StatusOr<const LayerVariant*> Choose(const Step& step, const LayerRow& row,
                                             const Want& want);
  absl::Status Make(const Step& step, const Want& want, LayerRow* row, const CancelToken& cancel);
  static LayerBlob BlobOf(const Step& step, const LayerRow& row, const LayerVariant& variant);

  // Writes the tar to `sink`; false when there is nothing to write.
  using TarWriter = std::function<absl::StatusOr<bool>(const ByteSink& sink)>;
  absl::StatusOr<TarWriter> SourceFor(const Step& step, const Want& want, const LayerRow& row,
                                      const CancelToken& cancel);
  absl::StatusOr<std::optional<LayerVariant>> Store(const Step& step, const Want& want,
                                                    const TarWriter& write, Digest* diff_id);
  absl::StatusOr<bool> StoreEstargz(const Want& want, const TarWriter& write, const ByteSink& store,
                                    Sha256* hash, LayerVariant* variant);
  absl::Status Unpack(const LayerVariant& variant, const Digest& diff_id, const FillTarget& target,
                      const CancelToken& cancel);

  const Root& root_;
  Database& database_;
  LocalRefStore& refs_;
  BlobStore& blobs_;
  CompressionBudget& budget_;
  const UnpackLimits limits_;
  const UnpackWatch unpacking_;
  BlobFetcher fetcher_;
  std::atomic<int64_t> blobs_made_{0};

  Mutex add_mu_;         // held while a record is looked for and made
  NamedLocks row_turn_;  // by row key, while it is changed
  ThreadPool make_pool_;
};

}  // namespace kiln::store
