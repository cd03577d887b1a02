#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "solver/internal/event.h"
#include "solver/internal/execution_table.h"
#include "solver/internal/pool.h"
#include "solver/internal/scheduler.h"
#include "solver/internal/vertex.h"
#include "solver/internal/vertex_table.h"
#include "solver/solved_graph.h"
#include "solver/stats.h"

namespace kiln::solver {

// The solver's state machine (DESIGN.md). Pure: no I/O, clock, lock or thread; the same events give
// the same actions. Not thread-safe; whoever drives it calls from one thread and answers every
// action of event.h's first group exactly once, in any order.
class Engine {
 public:
  // `slots`: executions that may run at once, of ops that take one; 0 = unlimited.
  // `burst`: actions after which Continue leaves the rest for later.
  explicit Engine(uint32_t slots, size_t burst = kBurst);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Takes note of an event. `now` must not go back. Appends what is to be done, in order.
  void Step(Event event, absl::Time now, std::vector<Action>* actions);
  // True while something follows from the events that was not gone into yet.
  bool busy() const;
  // Goes into it, until a burst of actions is there or all is done. Events may come in between, so
  // a large graph need not be walked through before the first of its calls is answered.
  void Continue(absl::Time now, std::vector<Action>* actions);

  // Sessions of the jobs interested in a call at this moment, in joining order.
  std::vector<std::string> SessionIds(const Vertex* vertex) const;
  std::vector<std::string> SessionIds(const Execution* execution) const;

  // What the job knows of the keys below the root of a definition that it built. A job that is
  // unknown or was cancelled gets the cause.
  absl::StatusOr<SolvedGraph> Solved(JobId job, LoadedGraph& graph, absl::Time now,
                                     std::vector<Action>* actions);

  const SolverStats& stats() const { return stats_; }
  JobStats StatsOf(JobId job) const;

  // True when nothing is held and no answer is due.
  bool Idle() const { return vertices_.empty() && executions_.empty() && jobs_.empty(); }
  // Aborts on a broken invariant (DESIGN.md, Invariants). Linear in the graph: for tests.
  void CheckInvariants() const;
  // Every vertex and edge with its state, a line each: for tests and bug reports.
  std::string Dump() const;

 private:
  static constexpr size_t kBurst = 256;
  using Logs = std::vector<std::shared_ptr<VertexLog>>;
  using JobList = absl::InlinedVector<JobState*, 2>;

  // engine_jobs.cc: jobs and the vertices they hold.
  void On(event::NewJob& event);
  void On(event::AddSession& event);
  void On(event::Build& event);
  void On(event::GoOn& event);
  void On(event::CancelRequest& event);
  void On(event::CancelJob& event);
  void On(event::EndJob& event);
  std::vector<Vertex*> Register(LoadedGraph& graph, absl::Span<JobState* const> jobs,
                                uint32_t depth);
  Vertex* FindOrMake(const LoadedGraph& graph, LoadedVertex& loaded,
                     const std::vector<Vertex*>& placed, const JobState& job, uint32_t depth);
  void Revive(Vertex* vertex);
  bool AddJob(Vertex* vertex, JobState* job, Logs* logs);
  void Leave(JobState* job, const absl::Status& cause);
  void Reset(Vertex* vertex);
  Request* AddRequest(JobState* job, RequestId id, Edge* edge, Level level,
                      std::shared_ptr<const SourceMap> sources);
  void FinishRequest(Request* request);
  void EndRequest(Request* request, absl::StatusOr<ResultPtr> result);
  void Doom(Vertex* vertex);
  void Sweep();

  // engine.cc: edges and who wants them.
  Edge* EdgeOf(Vertex* vertex, int32_t output);
  void Enqueue(Edge* edge);
  void RunQueue(size_t enough);
  void Settle();
  uint32_t Attach(Edge* edge, const Consumer& consumer, Level level);
  void Detach(Edge* edge, uint32_t slot, Level level);
  void SetWant(Edge* consumer, uint32_t input, Level want);
  void RaiseWant(Edge* consumer, uint32_t input, Level want);
  void UpdateLevel(Edge* edge);
  void Notify(Edge* edge);
  void MarkChanged(Edge* edge, uint32_t input);
  void MarkAllChanged(Edge* edge);
  void AddKey(Edge* edge, EdgeKey key);
  void Complete(Edge* edge, ResultPtr result);
  void Fail(Edge* edge, const absl::Status& error);
  void Suspend(Edge* edge);
  void DropSearch(Edge* edge);
  void FailVertex(Vertex* vertex, const absl::Status& error);
  absl::Status Describe(const Vertex* vertex, absl::Status error) const;
  void Tell(Vertex* vertex, action::Mark mark, absl::string_view error = "");
  template <typename T>
  void Emit(T&& action) {
    actions_->emplace_back(std::forward<T>(action));
  }

  // engine_search.cc: from nothing to a cached result, or to "has to be executed".
  void Evaluate(Edge* edge);
  void StartSearch(Edge* edge);
  void OnMapKnown(Edge* edge);
  void OnLevelChanged(Edge* edge);
  void WantByStage(Edge* edge);
  void EvaluateSource(Edge* edge);
  void AdvanceInput(Edge* edge, uint32_t input);
  void AdvanceStage(Edge* edge, uint32_t input);
  void AdvanceContent(Edge* edge, uint32_t input);
  void LookUp(Edge* edge, uint32_t input);
  static bool MayFind(const InputSearch& in, const EdgeKey& key);
  bool MustLookUp(const Edge* edge, uint32_t input, const EdgeKey& key) const;
  bool StartMatch(Edge* edge);
  void Decide(Edge* edge);
  void Prepare(Edge* edge);
  bool ReadRecords(Edge* edge, std::vector<store::KeyId> keys);
  void StartLoad(Edge* edge);
  void LookUpAgain(Edge* edge);
  void AddTarget(Edge* edge, const EdgeKey& key);
  void On(event::QueryDone& event);
  void On(event::MatchDone& event);
  void On(event::RecordsDone& event);
  void On(event::LoadDone& event);

  // engine_calls.cc: cache maps and content digests, once per vertex whoever asks.
  void RequestCacheMap(Vertex* vertex);
  void RequestContent(Vertex* vertex, uint32_t input, const ResultPtr& result);
  void CancelCalls(Vertex* vertex);
  bool RetryCall(Vertex* vertex, const absl::Status& error);
  void On(event::CacheMapDone& event);
  void On(event::ContentDone& event);

  // engine_execution.cc: lead or follow, run, save.
  void TryExecute(Edge* edge);
  KeySets KeysOf(const Vertex* vertex, bool probe_only, bool* left_out) const;
  bool MayFollow(const Edge* edge, const Execution& execution) const;
  bool Reaches(const Edge* from, absl::Span<Vertex* const> to) const;
  void Lead(Edge* edge, KeySets keys);
  void Follow(Vertex* vertex, Execution* execution);
  void Wait(Edge* edge, Execution* execution);
  void Block(Edge* edge, Execution* execution);
  void StopWaiting(Edge* edge);
  void TakeOutput(Edge* edge, Execution* execution);
  void Start(Execution* execution);
  void Abandon(Execution* execution);
  void End(Execution* execution);
  void CloseRun(Execution* execution);
  void FinishExecution(Execution* execution, std::vector<ResultPtr> outputs);
  void FailExecution(Execution* execution, const absl::Status& error);
  bool RetryExecution(Execution* execution, const absl::Status& error);
  void OnNestedRoot(Execution* execution);
  void CloseNested(Execution* execution);
  void LeaveExecution(Vertex* vertex);
  void MaybeDelete(Execution* execution);
  JobList JobsOf(const Execution* execution) const;
  void On(event::ExecuteDone& event);
  void On(event::NestedLoaded& event);
  void On(event::SaveDone& event);

  // engine_priority.cc: which ready execution is on the longest way.
  void UpdatePathsIfWorthwhile();

  absl::flat_hash_map<JobId, std::unique_ptr<JobState>> jobs_;
  VertexTable vertices_;  // owns them
  std::vector<Execution*> executions_;
  Pool<Execution> execution_pool_;
  Pool<Search> searches_;
  Pool<Run> runs_;
  ExecutionTable table_;
  Scheduler scheduler_;

  const size_t burst_;
  std::vector<Edge*> queue_;  // to evaluate; the last first
  std::vector<Request*> finished_;
  std::vector<Execution*> nested_ready_;
  std::vector<Vertex*> doomed_;
  std::vector<Execution*> held_;  // until the step is over

  uint64_t clock_ = 1;         // the look-up clock: counts saves
  uint64_t tombs_ = 0;         // saves remembered of executions that are gone
  uint64_t path_changes_ = 0;  // vertices and executions since paths were computed
  size_t twins_ = 0;           // ignore_cache twins in the graph
  absl::Time now_;
  std::vector<Action>* actions_ = nullptr;  // of this step
  SolverStats stats_;
};

}  // namespace kiln::solver
