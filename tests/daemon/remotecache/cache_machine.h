#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "daemon/remotecache/cache_export.h"
#include "daemon/remotecache/cache_manifest.h"
#include "daemon/remotecache/imported_graph.h"
#include "solver/solver.h"
#include "store/base/mutex.h"
#include "store/memory_cache_index.h"
#include "tests/solver/graph_text.h"
#include "tests/solver/test_ops.h"

namespace kiln::daemon {

// A world of blobs: a result of the test ops, a text, is one layer on top of the layers of its
// first input's text; "top(step(base()))" has three.
class TestBlobs {
 public:
  std::vector<CacheLayerBlob> LayersOf(const std::string& value) {
    std::vector<CacheLayerBlob> layers;
    const size_t inner = value.find('(');
    // The first input: up to the comma at its own depth.
    if (inner != std::string::npos) {
      int depth = 0;
      size_t end = inner + 1;
      for (; end < value.size() - 1; ++end) {
        if (value[end] == '(') ++depth;
        if (value[end] == ')') --depth;
        if (value[end] == ',' && depth == 0) break;
      }
      if (end > inner + 1) layers = LayersOf(value.substr(inner + 1, end - inner - 1));
    }
    store::LayerBlob blob;
    blob.diff_id = Digest::Of(absl::StrCat("diff ", value));
    blob.descriptor = {store::kOciLayerGzip,
                       Digest::Of(absl::StrCat("blob ", value)),
                       static_cast<int64_t>(value.size()),
                       {},
                       {}};
    blob.created_at = absl::FromUnixSeconds(1700000000);
    MutexLock lock(&mu_);
    values_[blob.diff_id] = value;
    layers.push_back({blob, nullptr});
    return layers;
  }
  std::string ValueOf(const Digest& diff_id) {
    MutexLock lock(&mu_);
    return values_.at(diff_id);
  }

 private:
  Mutex mu_;
  absl::flat_hash_map<Digest, std::string> values_ ABSL_GUARDED_BY(mu_);
};

// An imported graph whose results come from TestBlobs.
class TestImports : public solver::ImportedKeys {
 public:
  TestImports(const std::string& name, TestBlobs* blobs, std::vector<ImportedConfig> configs)
      : identity_(Digest::Of(name)), blobs_(*blobs), graph_(configs) {}

  const Digest& identity() const override { return identity_; }
  void WhenReady(absl::AnyInvocable<void()> ready) override { ready(); }
  std::vector<store::KeyId> Query(absl::Span<const store::InputKey> keys, int input,
                                  const store::OpOutput& op) const override {
    return graph_.Query(keys, input, op);
  }
  std::vector<store::CacheRecord> Records(const store::KeyId& key) const override {
    return graph_.Records(key);
  }
  absl::StatusOr<solver::ResultPtr> Load(absl::string_view result_id) const override {
    const ImportedGraph::Result* result = graph_.Find(result_id);
    if (result == nullptr) return absl::NotFoundError("no such result");
    ++loads;
    return std::make_shared<solver::TestResult>(std::string(result_id),
                                                blobs_.ValueOf(result->layers.back().diff_id));
  }
  absl::StatusOr<store::PortableNode> Export(const store::KeyId& key) const override {
    return graph_.Export(key);
  }
  const ImportedGraph& graph() const { return graph_; }

  mutable std::atomic<int> loads = 0;

 private:
  const Digest identity_;
  TestBlobs& blobs_;
  const ImportedGraph graph_;
};

// Layers of test results. Without `make` only those of `made` are there.
class TestLayers : public ResultLayers {
 public:
  TestLayers(TestBlobs* blobs, solver::TestWorld* world) : blobs_(*blobs), world_(*world) {}
  absl::StatusOr<std::vector<CacheLayerBlob>> LayersOf(const KeyResult& result,
                                                       bool make) override {
    std::string value;
    if (result.imports != nullptr) {
      const auto* graph = static_cast<const TestImports*>(result.imports.get());
      const ImportedGraph::Result* found = graph->graph().Find(result.id);
      if (found == nullptr) return absl::NotFoundError("gone");
      value = blobs_.ValueOf(found->layers.back().diff_id);
    } else if (result.loaded) {
      value = solver::ValueOf(result.result);
    } else {
      absl::StatusOr<solver::ResultPtr> loaded = world_.Load(result.id);
      if (!loaded.ok()) return absl::NotFoundError("gone");
      value = solver::ValueOf(*loaded);
    }
    const std::vector<CacheLayerBlob> layers = blobs_.LayersOf(value);
    MutexLock lock(&mu_);
    for (const CacheLayerBlob& layer : layers) {
      const bool is_new = made_.emplace(layer.blob.diff_id, true).second;
      if (is_new && !make) {
        made_.erase(layer.blob.diff_id);
        return absl::NotFoundError("has no blob yet");
      }
    }
    return layers;
  }

 private:
  TestBlobs& blobs_;
  solver::TestWorld& world_;
  Mutex mu_;
  absl::flat_hash_map<Digest, bool> made_ ABSL_GUARDED_BY(mu_);
};

// A daemon with nothing but a solver.
class CacheMachine {
 public:
  explicit CacheMachine(TestBlobs* blobs) : blobs_(*blobs) {
    solver::SolverOptions options;
    options.op_threads = 8;
    options.io_threads = 2;
    solver_ = solver::Solver::Create(options, &index, &world, &world);
  }

  std::shared_ptr<solver::Job> NewJob(std::shared_ptr<solver::ImportedKeys> imports = nullptr) {
    solver::JobOptions options;
    options.id = absl::StrCat("job", jobs_++);
    options.session_ids = {"session"};
    options.imports = std::move(imports);
    return *solver_->NewJob(options);
  }

  // Builds and gives the value and the cache to export.
  struct Built {
    std::string value;
    CacheExport cache;
    std::vector<WalkedKey> keys;
  };
  Built Build(const std::string& graph, CacheMode mode = CacheMode::kMax,
              std::shared_ptr<solver::ImportedKeys> imports = nullptr) {
    const auto job = NewJob(std::move(imports));
    const std::string definition = solver::DefinitionOf(graph);
    const auto result = job->BuildAndWait(definition, CancelToken());
    if (!result.ok()) return {std::string(result.status().message()), {}, {}};
    Built built;
    built.value = solver::ValueOf(*result);
    const std::vector<solver::SolvedGraph> graphs = {job->Solved(definition).value()};
    built.keys = WalkKeys(graphs, index).value();
    TestLayers layers(&blobs_, &world);
    built.cache = MakeCacheExport(built.keys, mode, layers).value();
    return built;
  }

  store::MemoryCacheIndex index;
  solver::TestWorld world;

 private:
  TestBlobs& blobs_;
  std::unique_ptr<solver::Solver> solver_;
  int jobs_ = 0;
};

// What somebody who imports the exported cache reads.
inline ImportedConfig Transfer(const CacheExport& cache, const CacheManifestForm& form = {}) {
  const CacheManifest manifest = MakeCacheManifest(cache, form);
  ImportedConfig out;
  out.config = ParseCacheConfig(manifest.config_json).value();
  FetchedManifest fetched = ReadCacheManifest(manifest.json, "origin").value();
  for (store::LayerBlob& layer : fetched.layers)
    out.blobs.emplace(layer.descriptor.digest, std::move(layer));
  return out;
}

}  // namespace kiln::daemon
