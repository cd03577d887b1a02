#include "daemon/remotecache/imported_cache.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/exporter/blob_lease.h"
#include "daemon/ops/ref_result.h"
#include "store/base/check.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

ImportedCache::~ImportedCache() = default;

void ImportedCache::Fill(absl::Span<const ImportedConfig> configs) {
  auto graph = std::make_unique<const ImportedGraph>(configs);
  std::vector<absl::AnyInvocable<void()>> waiting;
  {
    MutexLock lock(&mu_);
    KILN_CHECK(graph_ == nullptr);
    graph_ = std::move(graph);
    waiting.swap(waiting_);
  }
  for (auto& ready : waiting) ready();
}

void ImportedCache::WhenReady(absl::AnyInvocable<void()> ready) {
  {
    MutexLock lock(&mu_);
    if (graph_ == nullptr) {
      waiting_.push_back(std::move(ready));
      return;
    }
  }
  ready();
}

const ImportedGraph* ImportedCache::graph() const {
  static const ImportedGraph* const empty = new ImportedGraph();
  MutexLock lock(&mu_);
  return graph_ != nullptr ? graph_.get() : empty;
}

std::vector<store::KeyId> ImportedCache::Query(absl::Span<const store::InputKey> keys, int input,
                                               const store::OpOutput& op) const {
  return graph()->Query(keys, input, op);
}

std::vector<store::CacheRecord> ImportedCache::Records(const store::KeyId& key) const {
  return graph()->Records(key);
}

absl::StatusOr<store::PortableNode> ImportedCache::Export(const store::KeyId& key) const {
  return graph()->Export(key);
}

const ImportedGraph::Result* ImportedCache::Find(absl::string_view result_id) const {
  return graph()->Find(result_id);
}

absl::Status FetchLayer(CacheProvider& provider, const store::Descriptor& blob,
                        store::BlobStore& blobs, const std::string& lease,
                        const CancelToken& cancel) {
  store::BlobWant want;
  want.digest = blob.digest;
  if (blob.size_bytes > 0) want.size_bytes = blob.size_bytes;
  absl::StatusOr<std::unique_ptr<store::BlobWriter>> writer = blobs.Ingest(want, lease);
  if (absl::IsAlreadyExists(writer.status())) return absl::OkStatus();
  KILN_RETURN_IF_ERROR(writer.status());
  KILN_RETURN_IF_ERROR(provider.Fetch(
      blob, cancel, [&](absl::string_view bytes) { return (*writer)->Append(bytes); }));
  return (*writer)->Commit().status();
}

absl::Status EnsureLayer(const CacheLayerBlob& layer, store::BlobStore& blobs,
                         store::LayerStore& layers, const std::string& lease,
                         const CancelToken& cancel) {
  if (layer.provider != nullptr)
    return FetchLayer(*layer.provider, layer.blob.descriptor, blobs, lease, cancel);
  return layers.Ensure(layer.blob, lease, cancel);
}

absl::Status ImportedCache::FetchAll(const ImportedGraph::Result& result,
                                     const std::string& lease) const {
  for (const store::LayerBlob& layer : result.layers)
    KILN_RETURN_IF_ERROR(
        FetchLayer(*result.provider, layer.descriptor, *stores_.blobs, lease, cancel_));
  return absl::OkStatus();
}

absl::StatusOr<solver::ResultPtr> ImportedCache::Load(absl::string_view result_id) const {
  const ImportedGraph::Result* result = Find(result_id);
  if (result == nullptr)
    return absl::NotFoundError(absl::StrCat("imported result ", result_id, " is unknown"));
  KILN_RETURN_IF_ERROR(result->provider->Check(result->layers, cancel_));
  store::RefPtr tree;
  store::RefOptions options;
  options.description = "imported from a remote cache";
  const auto stack = [&]() -> absl::Status {
    for (const store::LayerBlob& layer : result->layers) {
      store::RefOptions own = options;
      if (!layer.description.empty()) own.description = layer.description;
      KILN_ASSIGN_OR_RETURN(tree, stores_.layers->AddLayer(std::move(tree), layer, own));
    }
    return absl::OkStatus();
  };
  if (result->provider->lazy()) {
    KILN_RETURN_IF_ERROR(stack());
  } else {
    // Where it is may not be there for long (a client), so it is unpacked now.
    const BlobLease lease(stores_.blobs);
    KILN_RETURN_IF_ERROR(FetchAll(*result, lease.name()));
    KILN_RETURN_IF_ERROR(stack());
    KILN_RETURN_IF_ERROR(tree->Materialize(cancel_).status());
  }
  KILN_RETURN_IF_ERROR(stores_.refs->SetRetained(tree->id()));
  return MakeResult(std::move(tree));
}

}  // namespace kiln::daemon
