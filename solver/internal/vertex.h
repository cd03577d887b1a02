#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "solver/internal/event.h"
#include "solver/stats.h"

// The shared graph. Plain data, owned and changed by the Engine alone (engine.h).
namespace kiln::solver {

struct JobState;
struct Request;

// A call into an op. Cancelling is a state of its own: who wants the answer meanwhile waits for the
// end of the old call and then starts anew (BuildKit issue 3628).
enum class CallState : uint8_t { kIdle, kRunning, kCancelling, kDone };

// How much of an edge a consumer wants. Each level includes the ones before.
enum class Level : uint8_t {
  kNone,
  kFast,      // keys that follow from the definition
  kSlow,      // all keys that can be had without the result
  kComplete,  // the result
};

enum class EdgeState : uint8_t {
  kIdle,       // nobody wants it
  kSearching,  // looks for keys and records
  kLoading,    // a cached result is being loaded
  kPreparing,  // no cached result: inputs and their content keys are being completed
  kExecuting,  // waits for an execution, its own vertex's or one that it follows
  kComplete,
  kFailed,
};

// A key of an edge's result.
struct EdgeKey {
  store::KeyId id;
  // The look-up clock when the key was made new: nothing had been saved under it before. 0: not
  // known to be new, so consumers have to look it up.
  uint64_t fresh : 60 = 0;
  // False for keys of ignore_cache results: they are saved and linked but find nothing.
  uint64_t probe : 1 = true;
  // Of ImportedKeys: it finds more of these and what was saved under it, and is told of the result
  // only when the result is its own (`loaded`).
  uint64_t imported : 1 = false;
  uint64_t loaded : 1 = false;
  // Met again in the same session at most ("random:…"). Where the content of the result is a key,
  // too, nothing is looked for or saved under this one: it would stay in the index and find
  // nothing.
  uint64_t random : 1 = false;
};

// Who wants an edge: input `input` of another edge, a request, or an execution whose nested root it
// is. The others are null.
class Consumer {
 public:
  Consumer(Edge* edge, uint32_t input) : who_(edge), input_(input), kind_(Kind::kEdge) {}
  explicit Consumer(Request* request) : who_(request), kind_(Kind::kRequest) {}
  explicit Consumer(Execution* nesting) : who_(nesting), kind_(Kind::kNesting) {}

  Edge* edge() const { return As<Edge>(Kind::kEdge); }
  uint32_t input() const { return input_; }
  Request* request() const { return As<Request>(Kind::kRequest); }
  Execution* nesting() const { return As<Execution>(Kind::kNesting); }

 private:
  enum class Kind : uint8_t { kEdge, kRequest, kNesting };
  template <typename T>
  T* As(Kind kind) const {
    return kind_ == kind ? static_cast<T*>(who_) : nullptr;
  }

  void* who_;
  uint32_t input_ = 0;
  Kind kind_;
};

enum class InputStage : uint8_t {
  kFast,     // keys that follow from the definition
  kSlow,     // the input's own content-based matches
  kContent,  // the digest of the input's content
  kDone,     // nothing more can be found
};

struct InputSearch {
  Edge* edge = nullptr;
  uint32_t slot = 0;  // its place in edge->consumers while want != kNone
  Level want = Level::kNone;
  InputStage stage = InputStage::kFast;
  bool fast_over = false;  // no definition key can come any more, and all are looked up
  bool settled = false;    // has candidates, or can get none
  bool complete = false;
  bool by_content = false;    // it has a content key, once the cache map is known
  bool content_over = false;  // that one is known and looked up
  bool querying = false;
  bool content_queried = false;
  bool bare = true;     // without candidates
  bool common = false;  // its candidates are not all: there are too many
  bool changed = false;
  uint32_t keys_seen = 0;  // of edge->keys, looked up or known to be new
};

// What a search found; most find nothing.
struct Finds {
  std::vector<std::vector<store::KeyId>> candidates;  // of each input
  absl::flat_hash_map<store::KeyId, uint32_t> hits;   // candidate -> number of inputs that have it
  std::vector<store::KeyId> unread;             // matched by every input, records not read yet
  std::vector<store::CacheRecord> records;      // the one to try next is the last
  std::vector<event::ImportedRecord> imported;  // the same; tried when `records` is used up
  absl::flat_hash_set<std::string> tried;       // result ids
};

// The search of one edge for a cached result, and what it waits for before it can execute.
struct Search {
  absl::InlinedVector<InputSearch, 2> inputs;
  absl::InlinedVector<uint32_t, 2> changed;  // inputs to look at
  std::unique_ptr<Finds> finds;              // null: none yet
  uint64_t looked_up = 0;                    // the look-up clock when the last query began
  uint32_t pending = 0;                      // look-ups under way
  uint32_t maps_keyed = 0;  // cache maps that the edge's keys were made of (no inputs)
  uint32_t maps_read = 0;   // cache maps whose records were asked for (no inputs)
  uint32_t not_fast = 0, unsettled = 0, incomplete = 0, content_missing = 0;
  uint32_t bare = 0;       // inputs without candidates
  uint32_t common = 0;     // inputs with too many
  bool match_due = false;  // something new was found since the last match, and an input is common
  bool matching = false;
  bool map_known = false;
  bool dead = false;     // an input can never match
  bool widened = false;  // every input has candidates but they lead to no record: look further
  Level level_seen = Level::kNone;
};

// One output of a vertex.
struct Edge {
  Edge(Vertex* of, int32_t number) : vertex(of), output(number) {}

  // Whether the result may be saved and looked for under `key`.
  bool IsOfResult(const EdgeKey& key) const { return result_imported ? key.loaded : !key.imported; }

  Vertex* const vertex;
  const int32_t output;
  EdgeState state = EdgeState::kIdle;
  Level level = Level::kNone;  // the most any consumer wants
  bool fast_done = false;      // no more keys at this level, whoever waits
  bool slow_done = false;
  bool queued = false;
  bool result_imported = false;  // the result is that of the imported key marked `loaded`
  uint32_t epoch = 0;            // answers to an earlier search are dropped
  uint32_t wants[4] = {0, 0, 0, 0};
  absl::InlinedVector<Consumer, 1> consumers;
  absl::InlinedVector<EdgeKey, 1> keys;
  ResultPtr result;
  absl::Status error;
  Execution* waiting_on = nullptr;  // state kExecuting
  Search* search = nullptr;         // the engine's; null: none
};

// The outputs of a vertex that were ever asked for, in that order. There is nearly always one, and
// that lies in here.
class Edges {
 public:
  // Null: never asked for.
  Edge* Find(int32_t output) {
    for (Edge& edge : *this)
      if (edge.output == output) return &edge;
    return nullptr;
  }
  Edge* FindOrMake(Vertex* vertex, int32_t output) {
    if (Edge* known = Find(output)) return known;
    if (!first_.has_value()) return &first_.emplace(vertex, output);
    if (more_ == nullptr) more_ = std::make_unique<std::vector<std::unique_ptr<Edge>>>();
    return more_->emplace_back(std::make_unique<Edge>(vertex, output)).get();
  }

  class Iterator {
   public:
    Iterator(Edges* edges, size_t at) : edges_(edges), at_(at) {}
    Edge& operator*() const { return at_ == 0 ? *edges_->first_ : *(*edges_->more_)[at_ - 1]; }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at_ != other.at_; }

   private:
    Edges* edges_;
    size_t at_;
  };
  Iterator begin() { return {this, 0}; }
  Iterator end() {
    return {this, !first_.has_value() ? 0 : more_ == nullptr ? 1 : 1 + more_->size()};
  }

 private:
  std::optional<Edge> first_;
  std::unique_ptr<std::vector<std::unique_ptr<Edge>>> more_;  // null: none
};

struct InputContent {
  CallState state = CallState::kIdle;
  bool stale = false;  // a call of an earlier life of the vertex: its answer does not count
  store::KeyId key;    // state kDone
};

struct VertexInput {
  Vertex* vertex = nullptr;
  int32_t output = 0;
};

// What an op is made of, until it is.
struct Unmade {
  absl::Status error;  // why it cannot be made
  std::string op_bytes;
  std::vector<std::string> linux_resources;  // of each job's definition
};

// One op, shared by all jobs that need it. There are very many: what few need is kept apart.
struct Vertex {
  Digest identity;  // its digest, or the shifted one of an ignore_cache twin
  std::shared_ptr<const VertexInfo> info;
  std::shared_ptr<Op> op;
  std::unique_ptr<Unmade> unmade;         // null once `op` is there
  std::shared_ptr<ImportedKeys> imports;  // null: none
  std::shared_ptr<VertexLog> log;
  absl::InlinedVector<VertexInput, 1> inputs;
  absl::InlinedVector<JobState*, 2> jobs;  // in joining order
  Edges edges;

  CacheMaps maps;
  std::vector<InputContent> content;  // for each input; empty until the first is asked for
  absl::Status error;                 // sticky for the jobs that were there; others start anew
  Execution* execution = nullptr;     // the one whose outcome counts here
  Execution* leading = nullptr;       // the one that runs this vertex's op, until the call ended

  JobId called_for = 0;       // the first job when the last call began
  uint32_t retries = 0;       // calls made again because a client was lost
  uint32_t active_edges = 0;  // edges with a search
  uint32_t outstanding = 0;   // answers due; the vertex stays in memory until all are in
  uint32_t depth = 0;         // of nested definitions
  CallState map_state = CallState::kIdle;
  bool map_stale = false;  // as InputContent::stale
  bool ignore_cache = false;
  bool is_twin = false;  // of an active vertex that may use the cache
  bool doomed = false;   // to be looked at when the step is over
  int64_t mean_ns = 0;   // of earlier executions
  int64_t path_ns = 0;   // the longest way from here to a root, this one included
};

enum class ExecutionState : uint8_t {
  kWaiting,     // for locks or a slot
  kRunning,     //
  kNested,      // its definition is being loaded or solved
  kCancelling,  // the call winds down
  kDone,
};

enum class SaveState : uint8_t { kUnsaved, kSaving, kSaved };

struct ExecutionOutput {
  ResultPtr result;
  SaveState save = SaveState::kUnsaved;
  absl::InlinedVector<EdgeKey, 1> nodes;
};

// What an execution needs until it is done.
struct Run {
  Vertex* leader = nullptr;
  std::shared_ptr<const VertexInfo> info;  // the leader's, as the op is
  std::shared_ptr<Op> op;
  std::vector<ResultPtr> inputs;
  std::vector<Edge*> blocked;  // start anew when the cancelled call has ended

  // Sessions that were there when the call began, to tell whether one was lost.
  absl::InlinedVector<JobId, 2> started_for;
  uint32_t retries = 0;

  // Scheduling (scheduler.h).
  uint64_t order = 0;
  int64_t path_ns = 0;              // from here to a root, by earlier runs
  std::vector<Op::Resource> locks;  // sorted; the first `locks_held` are held
  uint32_t locks_held = 0;
  uint32_t place = 0;  // among what is enqueued
  bool enqueued = false, takes_slot = false, wants_slot = false, has_slot = false;
  absl::InlinedVector<JobState*, 2> charged;

  // state kNested
  std::vector<Vertex*> nested_vertices;
  Edge* nested_root = nullptr;
  uint32_t nested_slot = 0;  // its place in nested_root->consumers
  std::shared_ptr<const SourceMap> nested_sources;
};

// A run of one vertex's op for every vertex whose keys are equal to its keys. Done ones stay for as
// long as a vertex holds them, so that equals arriving late find them.
struct Execution {
  // Where the table has it (execution_table.h).
  struct TablePlace {
    uint64_t hash;
    uint32_t place;
  };

  Run* run = nullptr;                        // the engine's; null once done
  absl::InlinedVector<Vertex*, 2> vertices;  // that hold its outcome
  absl::InlinedVector<Edge*, 2> waiting;     // for its end or for a save; its interest
  std::shared_ptr<VertexLog> log;            // the leader's
  CacheMaps maps;
  KeySets keys;
  absl::InlinedVector<ExecutionOutput, 1> outputs;
  absl::InlinedVector<TablePlace, 1> table;
  absl::Duration took;
  uint64_t save_clock = 0;   // when the last output was saved; 0: none yet
  uint32_t outstanding = 0;  // answers due
  uint32_t place = 0;        // in the engine's list
  ExecutionState state = ExecutionState::kWaiting;
  bool shared = false;  // there was a follower
  bool ignore_cache = false;
  bool all_fresh = false;  // every key that led here had been looked up: a new node is new
};

struct Request {
  RequestId id = 0;
  JobState* job = nullptr;
  Edge* edge = nullptr;
  uint32_t slot = 0;  // its place in edge->consumers
  Level level = Level::kComplete;
  std::vector<RequestId> early;  // for what it runs early; they end with it
  std::shared_ptr<const SourceMap> sources;
};

struct JobState {
  JobId id = 0;
  std::vector<std::string> session_ids;
  std::vector<std::string> entitlements;
  absl::flat_hash_map<RequestId, std::unique_ptr<Request>> requests;
  std::vector<Vertex*> vertices;  // inputs before consumers within one definition
  absl::Status cancelled;         // not OK once cancelled
  uint32_t running = 0;           // slots in use
  JobStats stats;
};

}  // namespace kiln::solver
