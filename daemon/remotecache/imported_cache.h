#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/remotecache/cache_export.h"
#include "daemon/remotecache/imported_graph.h"
#include "solver/imported_keys.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/blob_store.h"
#include "store/layer/layer_store.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// Where results of imported caches are put. All outlive the caches.
struct ImportStores {
  store::RefStore* refs = nullptr;
  store::LayerStore* layers = nullptr;
  store::BlobStore* blobs = nullptr;
};

// The remote caches that builds import: empty until Fill, which ends the wait of look-ups.
// Thread-safe.
class ImportedCache : public solver::ImportedKeys {
 public:
  // Loads end when `cancel` fires.
  ImportedCache(Digest identity, ImportStores stores, CancelToken cancel)
      : identity_(identity), stores_(stores), cancel_(std::move(cancel)) {}
  ~ImportedCache() override;

  // Once.
  void Fill(absl::Span<const ImportedConfig> configs);

  const Digest& identity() const override { return identity_; }
  void WhenReady(absl::AnyInvocable<void()> ready) override;
  std::vector<store::KeyId> Query(absl::Span<const store::InputKey> keys, int input,
                                  const store::OpOutput& op) const override;
  std::vector<store::CacheRecord> Records(const store::KeyId& key) const override;
  // The layers become a tree that stays until it is collected as garbage. Lazy where the provider
  // is, else fetched and unpacked here.
  absl::StatusOr<solver::ResultPtr> Load(absl::string_view result_id) const override;
  absl::StatusOr<store::PortableNode> Export(const store::KeyId& key) const override;

  // The layers of a result without making a tree of them; null when it is unknown. Lives as long as
  // *this.
  const ImportedGraph::Result* Find(absl::string_view result_id) const;

 private:
  const ImportedGraph* graph() const;
  absl::Status FetchAll(const ImportedGraph::Result& result, const std::string& lease) const;

  const Digest identity_;
  const ImportStores stores_;
  const CancelToken cancel_;
  mutable Mutex mu_;
  std::unique_ptr<const ImportedGraph> graph_ ABSL_GUARDED_BY(mu_);  // constant once set
  std::vector<absl::AnyInvocable<void()>> waiting_ ABSL_GUARDED_BY(mu_);
};

// Brings the bytes of a layer into the blob store, held by `lease`; verified.
absl::Status FetchLayer(CacheProvider& provider, const store::Descriptor& blob,
                        store::BlobStore& blobs, const std::string& lease,
                        const CancelToken& cancel);
// The same for a layer of an export, wherever it is.
absl::Status EnsureLayer(const CacheLayerBlob& layer, store::BlobStore& blobs,
                         store::LayerStore& layers, const std::string& lease,
                         const CancelToken& cancel);

}  // namespace kiln::daemon
