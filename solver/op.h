#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/digest.h"
#include "store/base/cancel.h"

namespace kiln::solver {

// What an output of an op yields. Opaque here; the last drop releases what it holds. Immutable,
// thread-safe.
class Result {
 public:
  virtual ~Result() = default;
  // Persistent id, "<worker>::<ref id>"; CacheIndex stores it and ResultLoader::Load takes it back.
  virtual std::string Id() const = 0;
};
using ResultPtr = std::shared_ptr<const Result>;

// How an op takes part in caching (llb.md 3.2). One for each input of the op.
struct CacheMapInput {
  std::string selector;      // dependency selector digest, "" = none
  bool content_key = false;  // Op::ContentDigest may be asked for this input
};

struct CacheMap {
  std::string op_digest;  // "sha256:…"; "random:…" is never persisted in a useful way
  std::vector<CacheMapInput> inputs;
  bool final = true;  // false: another map, index + 1, may be asked for (images have two)
};

// One line of a vertex's progress: what the status stream shows under it (wire.md 5.3).
struct StatusUpdate {
  std::string id;    // the displayed text
  std::string name;  // the action
  int64_t current = 0, total = 0;
  absl::Time timestamp, started = absl::InfinitePast(), completed = absl::InfinitePast();
};
struct LogChunk {
  int stream = 1;  // 1 stdout, 2 stderr
  std::string data;
  absl::Time timestamp;
};
struct Warning {
  int level = 1;
  std::string short_text;
  std::vector<std::string> detail;
  std::string url;
  std::string source_info;          // serialized pb.SourceInfo, or empty
  std::vector<std::string> ranges;  // serialized pb.Range each
};

// Where a running op reports to. Thread-safe, never blocks for long; safe after the op ended.
class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  virtual void Status(StatusUpdate update) = 0;
  virtual void Log(LogChunk chunk) = 0;
  virtual void Warn(Warning warning) = 0;
};

// What the graph says of a vertex, beside its op (llb.md 1.3, 1.6).
struct VertexInfo {
  Digest digest;
  // Of the vertices that its inputs come from, in their order.
  absl::InlinedVector<Digest, 1> inputs;
  std::string name;
  bool ignore_cache = false;
  std::optional<bool> export_cache;
  std::string progress_group;   // serialized pb.ProgressGroup, or empty
  std::string linux_resources;  // serialized pb.LinuxResources merged over jobs, or empty
};

// Values of one job (one Solve) that its ops share: "resolve each URL once per job". Thread-safe.
class JobValues {
 public:
  virtual ~JobValues() = default;
  // Runs `make` at most once per key at a time and remembers an OK answer for the job's life.
  virtual absl::StatusOr<std::string> GetOrMake(
      const std::string& key, const std::function<absl::StatusOr<std::string>()>& make) = 0;
};

// What an op may use while it runs. Valid only during the call it is passed to.
class OpContext {
 public:
  virtual ~OpContext() = default;
  virtual const CancelToken& cancel() const = 0;
  virtual ProgressSink& progress() = 0;
  virtual const VertexInfo& vertex() const = 0;
  // Session ids of every job interested at this moment, in joining order. Ask again on retry:
  // jobs come and go.
  virtual std::vector<std::string> SessionIds() const = 0;
  virtual JobValues& job_values() = 0;
};

// What Execute made: outputs, or a definition to be solved in their place (nested build op): its
// root becomes output 0, and the vertex's jobs hold what it needs.
struct ExecResult {
  std::vector<ResultPtr> outputs;
  std::optional<std::string> nested_definition;  // serialized pb.Definition
};

// One operation of the graph. Immutable and thread-safe; every method may block and runs on a pool
// thread; each honours cancel() at every wait. A call that was cancelled may be made again, but
// only after it has returned: two calls of one kind never run at once for one vertex.
class Op {
 public:
  virtual ~Op() = default;

  // The `index`-th cache map, 0 first. Only an op without inputs may have more than one. For a
  // vertex with ignore_cache the call for index 0 comes once each time the vertex becomes active,
  // before anything else. Errors are reported as "failed to load cache key: …".
  virtual absl::StatusOr<CacheMap> MakeCacheMap(OpContext& context, int index) = 0;

  // Digest of the part of `input` that the op reads ("sha256:…").
  // Errors are reported as "failed to compute cache key: …".
  virtual absl::StatusOr<std::string> ContentDigest(OpContext& context, int input_index,
                                                    const ResultPtr& input) = 0;

  // What ContentDigest would answer, if that is known without waiting and without I/O: asked on the
  // solver's own thread.
  virtual std::optional<std::string> KnownContentDigest(int /*input_index*/,
                                                        const ResultPtr& /*input*/) {
    return std::nullopt;
  }

  virtual absl::StatusOr<ExecResult> Execute(OpContext& context,
                                             absl::Span<const ResultPtr> inputs) = 0;

  // True when MakeCacheMap neither blocks nor does I/O: it may then run on the solver's own thread,
  // which saves a hop per vertex.
  virtual bool CheapCacheMap() const { return false; }
  // The same for Execute.
  virtual bool CheapExecute() const { return false; }

  // True when what it yields depends on which client is asked (a local directory that names no
  // session): jobs of other sessions have vertices of their own for it and for what is built on it.
  virtual bool PerSession() const { return false; }

  // True when it may run before it is known whether its result is needed, as soon as a build that
  // holds it is begun (Job::Begin): a client's directory, which others can bring while the client
  // does something else.
  virtual bool RunsEarly() const { return false; }

  // True for source, exec and file ops, which take one of --max-parallelism slots while executing.
  virtual bool TakesSlot() const = 0;

  // Exclusive resources, by name, that Execute needs (LOCKED cache mounts). The scheduler takes
  // them in sorted order, FIFO, before the slot, and gives them back after Execute.
  struct Resource {
    std::string name;
    bool exclusive = true;
  };
  virtual std::vector<Resource> Resources() const { return {}; }
};

// Marks an error as the loss of a client in mid-transfer: when the job of that client is gone and
// others still want the vertex, the call is made again and asks their sessions. kUnavailable counts
// as such a loss as well.
absl::Status SessionLostError(absl::Status status);
bool IsSessionLost(const absl::Status& status);

// Turns one op of a definition into an Op. `op_bytes` is the canonical serialized pb.Op. Called at
// load, or right before the first cache map when jobs may still add linux_resources; must not
// block. An error fails the vertex when it is solved, not the load. Thread-safe.
class OpResolver {
 public:
  virtual ~OpResolver() = default;
  virtual absl::StatusOr<std::shared_ptr<Op>> Resolve(absl::string_view op_bytes,
                                                      const VertexInfo& vertex) = 0;
};

// Brings results back from the cache. Thread-safe; blocking.
class ResultLoader {
 public:
  virtual ~ResultLoader() = default;
  // False: the record is dead and is dropped from the index. Cheap: no pull, no files touched.
  virtual bool Exists(absl::string_view result_id) = 0;
  virtual absl::StatusOr<ResultPtr> Load(absl::string_view result_id) = 0;
  // Called before a result is entered in the index: keeps it until GC.
  virtual absl::Status Retain(const ResultPtr& result) = 0;
};

}  // namespace kiln::solver
