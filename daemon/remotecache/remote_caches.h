#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/remotecache/cache_attrs.h"
#include "daemon/remotecache/cache_target.h"
#include "daemon/remotecache/imported_cache.h"
#include "daemon/remotecache/key_walk.h"
#include "solver/solver.h"
#include "store/base/mutex.h"
#include "store/base/thread_pool.h"

namespace kiln::daemon {

// What caches are made of and put into. All outlive the caches.
struct CacheStores {
  ImportStores imports;
  store::CacheIndex* index = nullptr;
  solver::ResultLoader* loader = nullptr;
};

// The caches of one build: what it imports, from its start on, and where its own goes in the end.
// Thread-safe.
class BuildCaches {
 public:
  // Ends fetching and waits for it to have ended.
  ~BuildCaches();

  // For the build's job; null when nothing is imported.
  std::shared_ptr<solver::ImportedKeys> imports() const { return imports_; }
  // Fetches what is imported, each as a step of the job, beside the build. A failure is told there;
  // the build goes on without that cache. Once, and only when imports() is not null.
  void Start(const std::shared_ptr<solver::Job>& job);
  // Ends fetching and loading.
  void Cancel(const absl::Status& cause) { cancel_.Cancel(cause); }

  bool exports_inline() const { return inline_.has_value(); }
  // The records for an image with these layers that is the result of a definition (4.4); "": none.
  // `format` is that of the image's layers. Blocks.
  absl::StatusOr<std::string> InlineCache(solver::Job& job, const std::string& definition,
                                          const std::vector<Digest>& diff_ids,
                                          const store::LayerFormat& format,
                                          const CancelToken& cancel) const;

  // Sends the cache of the results of these definitions to every target, each as a step of the job.
  // The answers of all; of equal keys the last one's. Blocks.
  absl::StatusOr<std::map<std::string, std::string>> Export(
      solver::Job& job, const std::vector<std::string>& definitions,
      const std::vector<std::string>& session_ids, const CancelToken& cancel) const;

 private:
  friend class RemoteCaches;
  struct Target {
    CommonCacheOptions options;
    std::unique_ptr<CacheTarget> target;
  };
  // A source that could not be made says why.
  struct Source {
    std::string id;
    absl::StatusOr<std::unique_ptr<CacheSource>> source;
  };

  BuildCaches(const CacheStores& stores, ThreadPool* pool) : stores_(stores), pool_(*pool) {}
  void FetchOne(size_t index, solver::Job& job);
  absl::Status SendOne(const Target& target, absl::Span<const WalkedKey> keys,
                       solver::ProgressSink& progress, const std::vector<std::string>& session_ids,
                       const CancelToken& cancel, std::map<std::string, std::string>* answer) const;

  const CacheStores stores_;
  ThreadPool& pool_;
  CancelSource cancel_;
  std::vector<std::string> session_ids_;
  std::vector<Target> targets_;
  std::optional<CommonCacheOptions> inline_;
  std::vector<Source> sources_;
  std::shared_ptr<ImportedCache> imports_;

  Mutex mu_;
  CondVar changed_;
  size_t fetching_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<ImportedConfig> fetched_ ABSL_GUARDED_BY(mu_);
};

// The kinds of remote caches that this daemon has. Filled by the wiring list, then constant.
class RemoteCaches {
 public:
  using MakeTarget = std::function<absl::StatusOr<std::unique_ptr<CacheTarget>>(const CacheAttrs&)>;
  using MakeSource = std::function<absl::StatusOr<std::unique_ptr<CacheSource>>(const CacheAttrs&)>;

  explicit RemoteCaches(const CacheStores& stores) : stores_(stores) {}

  void Add(std::string type, MakeTarget target, MakeSource source);

  // Checks what a build asks for (4.1). Everything that is wrong with an export is an error, with
  // BuildKit's texts; what is wrong with an import is told when it is fetched. `build_id` is its
  // own for each build.
  absl::StatusOr<std::unique_ptr<BuildCaches>> Open(const std::string& build_id,
                                                    const std::vector<CacheRequest>& exports,
                                                    const std::vector<CacheRequest>& imports,
                                                    std::vector<std::string> session_ids);

 private:
  struct Kind {
    MakeTarget target;
    MakeSource source;
  };
  const CacheStores stores_;
  std::map<std::string, Kind, std::less<>> kinds_;
  ThreadPool pool_{"kiln-import", 16};
};

}  // namespace kiln::daemon
