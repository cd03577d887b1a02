#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "solver/internal/engine.h"
#include "solver/internal/progress_hub.h"
#include "solver/internal/runner.h"
#include "store/base/cancel.h"
#include "store/memory_cache_index.h"
#include "tests/solver/test_ops.h"

namespace kiln::solver {

// Drives an engine in one thread: an action is done, and answered, only when the test says so, in
// the order that the test says. The engine's invariants are checked whenever it is not busy.
class StepDriver {
 public:
  enum class Kind { kMap, kContent, kRun, kNested, kQuery, kMatch, kRecords, kLoad, kSave };
  struct Pending {
    Kind kind;
    std::string name;  // of the vertex
    Action action;
    std::shared_ptr<CancelSource> cancel;
    bool cancelled = false;
    uint64_t since = 0;  // the step that asked for it
  };

  // With a `burst` the engine goes on only so far when told to, or when nothing is pending.
  StepDriver(TestWorld* world, store::CacheIndex* index, uint32_t slots = 0, size_t burst = 0);
  ~StepDriver();

  JobId NewJob(std::vector<std::string> entitlements = {});
  RequestId Build(JobId job, absl::string_view graph_text);
  RequestId BuildDefinition(JobId job, const std::string& definition);
  // Not over before GoOn, but for a reason.
  RequestId Begin(JobId job, absl::string_view graph_text);
  void GoOn(JobId job, RequestId request);
  void CancelRequest(JobId job, RequestId request);
  void CancelJob(JobId job);
  void EndJob(JobId job);

  const std::vector<Pending>& pending() const { return pending_; }
  // The first pending call of that kind and vertex name; -1 when there is none.
  int Find(Kind kind, absl::string_view name) const;
  bool IsPending(Kind kind, absl::string_view name) const { return Find(kind, name) >= 0; }

  // Does it and answers. A cancelled call answers with kCancelled, unless `anyway`.
  void Do(size_t index, bool anyway = false);
  // Does one that must be pending.
  void Do(Kind kind, absl::string_view name, bool anyway = false);
  // Does everything that is pending, oldest first, but calls of `except`, until none is left.
  void DoAll(absl::string_view except = "");

  bool IsOver(RequestId request) const { return results_.contains(request); }
  // Of a request that is over.
  const absl::StatusOr<ResultPtr>& ResultOf(RequestId request) const;
  // Value of one that succeeded, or its error's text after "error: ".
  std::string Outcome(RequestId request) const;
  ProgressLog& progress(JobId job) { return *logs_.at(job); }

  bool busy() const { return engine_.busy(); }
  void Continue();

  uint64_t steps() const { return steps_; }
  const Engine& engine() const { return engine_; }

 private:
  class Context;

  std::shared_ptr<LoadedGraph> LoadGraph(const std::string& definition);
  void Feed(Event event);
  void Take(Action& action);
  void Push(Kind kind, const std::string& name, Action& action);
  void Cancel(Kind kind, const void* owner, uint32_t input);
  Event Answer(Pending& pending, bool anyway);

  TestWorld& world_;
  Runner runner_;
  const size_t burst_;
  Engine engine_;
  std::vector<Pending> pending_;
  std::map<RequestId, absl::StatusOr<ResultPtr>> results_;
  std::map<JobId, std::shared_ptr<JobLog>> logs_;
  JobId next_job_ = 1;
  RequestId next_request_ = 1;
  uint64_t steps_ = 0;
};

}  // namespace kiln::solver
