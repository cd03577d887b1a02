#pragma once

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/remotecache/cache_config.h"
#include "store/base/cancel.h"
#include "store/cache_index.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// Where the bytes of an imported cache are. Thread-safe; blocking.
class CacheProvider {
 public:
  virtual ~CacheProvider() = default;
  // Whether the layer store can fetch the layers by itself, by their origin, whenever it wants.
  virtual bool lazy() const = 0;
  // kNotFound: a layer is not there (any more).
  virtual absl::Status Check(absl::Span<const store::LayerBlob> layers,
                             const CancelToken& cancel) = 0;
  // The bytes of a layer, in order, from their start. Not verified here.
  virtual absl::Status Fetch(const store::Descriptor& blob, const CancelToken& cancel,
                             const std::function<absl::Status(absl::string_view)>& sink) = 0;
};

// A cache config as it was fetched, with what is known of its blobs. Layers whose blob is not in
// `blobs` make the results that have them unusable.
struct ImportedConfig {
  CacheConfig config;  // as ParseCacheConfig leaves it: without loops
  absl::flat_hash_map<Digest, store::LayerBlob> blobs;
  std::shared_ptr<CacheProvider> provider;
};

// The keys of the caches that one build imports, as one graph. Immutable, thread-safe, no I/O.
class ImportedGraph {
 public:
  struct Result {
    absl::Time created_at;
    std::vector<store::LayerBlob> layers;  // lowest first, not empty
    std::shared_ptr<CacheProvider> provider;
  };

  ImportedGraph() = default;
  // Linear in the records, their ways, and the lengths of their results.
  explicit ImportedGraph(absl::Span<const ImportedConfig> configs);

  // As solver::ImportedKeys.
  std::vector<store::KeyId> Query(absl::Span<const store::InputKey> keys, int input,
                                  const store::OpOutput& op) const;
  std::vector<store::CacheRecord> Records(const store::KeyId& key) const;
  absl::StatusOr<store::PortableNode> Export(const store::KeyId& key) const;
  // What a result id of Records stands for; null when it is none.
  const Result* Find(absl::string_view result_id) const;

  size_t key_count() const { return nodes_.size(); }

 private:
  using Way = std::tuple<Digest, int, std::string, store::KeyId>;  // record, input, selector, from
  struct Node {
    std::vector<store::PortableNode::Link> links;
    std::vector<Result> results;  // one content; the newest first
  };
  void Add(const ImportedConfig& imported);
  store::KeyId ChooseId(const Digest& record, const Result* result,
                        const std::vector<store::PortableNode::Link>& links, size_t inputs) const;

  absl::flat_hash_map<store::KeyId, Node> nodes_;
  absl::flat_hash_map<Way, std::vector<store::KeyId>> ways_;
};

}  // namespace kiln::daemon
