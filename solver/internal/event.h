#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "solver/definition.h"
#include "solver/imported_keys.h"
#include "solver/internal/key_sets.h"
#include "solver/internal/known_map.h"
#include "solver/op.h"
#include "store/cache_index.h"

namespace kiln::solver {

struct Edge;
struct Execution;
struct Vertex;
class VertexLog;

using JobId = uint64_t;
using RequestId = uint64_t;

// What an op said of its caching, shared by the vertex and its execution.
using CacheMaps = absl::InlinedVector<std::shared_ptr<const KnownMap>, 1>;

// What the engine is told. Pointers come from the action that is answered; the engine keeps what
// they point to until the answer is in.
namespace event {

struct NewJob {
  JobId job;
  std::vector<std::string> session_ids;
  std::vector<std::string> entitlements;
};
struct AddSession {
  JobId job;
  std::string session_id;
};
struct Build {
  JobId job;
  RequestId request;
  std::shared_ptr<LoadedGraph> graph;  // not empty
  // Nothing is to run yet but the op of each of these vertices, for a request of its own.
  struct Early {
    uint32_t vertex;  // of the graph
    RequestId request;
  };
  std::vector<Early> early = {};
  bool only_begin = false;
};
// A request that was only begun is to be finished.
struct GoOn {
  JobId job;
  RequestId request;
};
// Withdraws one request; it is finished with `cause`.
struct CancelRequest {
  JobId job;
  RequestId request;
  absl::Status cause;
};
// Finishes every request with `cause` and leaves all vertices. Later requests get it as well.
struct CancelJob {
  JobId job;
  absl::Status cause;
};
struct EndJob {
  JobId job;
};
struct CacheMapDone {
  Vertex* vertex;
  std::shared_ptr<Op> op;  // null only when it could not be made
  absl::StatusOr<CacheMap> map;
  absl::Duration mean;  // of earlier executions; zero when unknown
};
struct ContentDone {
  Vertex* vertex;
  uint32_t input;
  absl::StatusOr<std::string> digest;
};
struct ExecuteDone {
  Execution* execution;
  absl::StatusOr<ExecResult> result;
  absl::Duration took;
};
struct NestedLoaded {
  Execution* execution;
  absl::StatusOr<std::shared_ptr<LoadedGraph>> graph;
};
struct QueryDone {
  Edge* edge;
  uint32_t epoch;
  uint32_t input;
  std::vector<store::KeyId> targets;
  std::vector<store::KeyId> imported;  // targets that are imported keys
  bool cut = false;                    // there are more targets than given
};
struct MatchDone {
  Edge* edge;
  uint32_t epoch;
  std::vector<store::KeyId> targets;
};
struct ImportedRecord {
  store::KeyId key;
  store::CacheRecord record;
};
struct RecordsDone {
  Edge* edge;
  uint32_t epoch;
  std::vector<store::CacheRecord> records;  // newest first; those whose result is gone left out
  std::vector<ImportedRecord> imported;     // newest first for each key
};
struct LoadDone {
  Edge* edge;
  uint32_t epoch;
  std::optional<store::KeyId> imported_key;
  absl::StatusOr<ResultPtr> result;
};
struct SaveDone {
  Execution* execution;
  uint32_t output;
  absl::StatusOr<std::vector<store::KeyId>> nodes;  // one for each cache map of the op
};

}  // namespace event

using Event =
    std::variant<event::NewJob, event::AddSession, event::Build, event::GoOn, event::CancelRequest,
                 event::CancelJob, event::EndJob, event::CacheMapDone, event::ContentDone,
                 event::ExecuteDone, event::NestedLoaded, event::QueryDone, event::MatchDone,
                 event::RecordsDone, event::LoadDone, event::SaveDone>;

// What the engine wants done. Each of the first group is answered by exactly one event, also when
// it was cancelled.
namespace action {

struct MakeCacheMap {
  Vertex* vertex;
  std::shared_ptr<const VertexInfo> info;
  std::shared_ptr<VertexLog> log;
  std::shared_ptr<Op> op;  // null: make it from `op_bytes` first
  std::string op_bytes;
  int index;
  JobId job;
};
struct ComputeContent {
  Vertex* vertex;
  std::shared_ptr<const VertexInfo> info;
  std::shared_ptr<VertexLog> log;
  std::shared_ptr<Op> op;
  uint32_t input;
  ResultPtr result;
  JobId job;
};
struct Execute {
  Execution* execution;
  std::shared_ptr<const VertexInfo> info;
  std::shared_ptr<VertexLog> log;
  std::shared_ptr<Op> op;
  std::vector<ResultPtr> inputs;
  JobId job;
};
struct LoadNested {
  Execution* execution;
  std::string definition;
  std::vector<std::string> entitlements;
};
// With `imports`, Query and FindRecords wait until these are ready.
struct Query {
  Edge* edge;
  uint32_t epoch;
  uint32_t input;
  std::vector<store::InputKey> keys;
  std::vector<store::InputKey> alone;  // asked one by one: the index must not tie them to others
  store::OpOutput op;
  std::shared_ptr<ImportedKeys> imports;  // null: none
};
// Targets that the keys of all inputs lead to.
struct Match {
  Edge* edge;
  uint32_t epoch;
  std::vector<std::vector<store::InputKey>> keys;  // of each input
  store::OpOutput op;
};
struct FindRecords {
  Edge* edge;
  uint32_t epoch;
  std::vector<store::KeyId> keys;
  std::shared_ptr<ImportedKeys> imports;
  bool of_session;  // the keys are of one session: SessionResults has what there is
};
struct Load {
  Edge* edge;
  uint32_t epoch;
  std::string result_id;
  std::optional<store::KeyId> imported_key;  // it is a record of this key of `imports`
  std::shared_ptr<ImportedKeys> imports;
};
struct Save {
  Execution* execution;
  uint32_t output;
  const CacheMaps* maps;  // of the execution, as the keys are: neither changes any more
  const KeySets* keys;
  ResultPtr result;
  absl::Duration took;  // of the execution; zero for all but its first output
  absl::Time now;
};

// The rest is answered by nothing. Cancelling what has ended already is normal.
struct CancelCacheMap {
  Vertex* vertex;
};
struct CancelContent {
  Vertex* vertex;
  uint32_t input;
};
struct CancelExecute {
  Execution* execution;
};
struct Link {
  std::shared_ptr<const KnownMap> map;
  int output;
  KeySets keys;
  store::KeyId target;
};
struct FinishRequest {
  JobId job;
  RequestId request;
  absl::StatusOr<ResultPtr> result;
};
// `job` sees everything told of these vertices, from their beginning.
struct Subscribe {
  JobId job;
  std::vector<std::shared_ptr<VertexLog>> logs;
};
struct Unsubscribe {
  JobId job;
  std::vector<std::shared_ptr<VertexLog>> logs;
};
enum class Mark : uint8_t {
  kKeys,       // computes a key; an interval that does not count as running
  kKeysDone,   //
  kStarted,    // runs
  kCompleted,  // ran; with an error or without
  kCached,     // needed no work
};
struct Progress {
  std::shared_ptr<VertexLog> log;
  Mark mark;
  absl::Time now;
  std::string error;
};
// What the execution of `leader` told and tells is shown under `follower` as well.
struct Follow {
  std::shared_ptr<VertexLog> leader;
  std::shared_ptr<VertexLog> follower;
};
// The execution is over: `leader` has no followers any more.
struct Unfollow {
  std::shared_ptr<VertexLog> leader;
};

}  // namespace action

using Action =
    std::variant<action::MakeCacheMap, action::ComputeContent, action::Execute, action::LoadNested,
                 action::Query, action::Match, action::FindRecords, action::Load, action::Save,
                 action::CancelCacheMap, action::CancelContent, action::CancelExecute, action::Link,
                 action::FinishRequest, action::Subscribe, action::Unsubscribe, action::Progress,
                 action::Follow, action::Unfollow>;

}  // namespace kiln::solver
