#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "solver/internal/engine.h"
#include "solver/internal/job_values.h"
#include "solver/internal/progress_hub.h"
#include "solver/internal/runner.h"
#include "solver/solver.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/base/thread_pool.h"

namespace kiln::solver {

// Drives the engine: one loop thread that owns it, pools for what blocks. What ops call cheap runs
// on the loop. Look-ups travel in batches, so that a large graph does not cost a thread hop for
// each vertex. Thread-safe.
class Driver {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<ResultPtr>)>;
  // Where `done` is called: on a pool thread, where it may block, or, when all it does is to wake
  // somebody, by whoever finds the outcome.
  enum class Calls { kOnPool, kQuick };

  Driver(const SolverOptions& options, store::CacheIndex* index, ResultLoader* loader,
         OpResolver* resolver);
  ~Driver();

  // Cancels everything and waits for the last call and callback to end. Afterwards everything is
  // refused with kUnavailable. Once, and not on a thread of the driver.
  void Stop();

  JobId AddJob(const JobOptions& options, std::shared_ptr<JobLog> log,
               std::shared_ptr<JobValuesMap> values);
  void AddSession(JobId job, std::string session_id);
  RequestId Build(JobId job, std::vector<std::string> entitlements,
                  std::shared_ptr<ImportedKeys> imports, std::string definition, Done done,
                  Calls calls);
  // The same, but that the outcome is kept for GoOn, and unless `run` only what runs early is run.
  RequestId Begin(JobId job, std::vector<std::string> entitlements,
                  std::shared_ptr<ImportedKeys> imports, std::string definition, bool run);
  // Finishes what was begun, once. False when it is not there any more: `done` is not called.
  bool GoOn(JobId job, RequestId request, Done& done, Calls calls);
  // What the job knows of the keys of a definition that it built. Blocks; not on a thread of the
  // driver.
  absl::StatusOr<SolvedGraph> Solved(JobId job, absl::Span<const std::string> entitlements,
                                     const std::shared_ptr<ImportedKeys>& imports,
                                     const std::string& definition);
  // `done` of the request gets `cause`, unless it was called already.
  void CancelRequest(JobId job, RequestId request, absl::Status cause);
  void CancelJob(JobId job, absl::Status cause);
  // The same, returning when the loop has done it. Not from the loop's callbacks.
  void ReleaseJob(JobId job, absl::Status cause);
  void EndJob(JobId job);

  SolverStats stats() const;
  JobStats StatsOf(JobId job);

 private:
  class Context;
  struct CallKey {
    const void* owner;
    int64_t part;  // input of a content digest, -1 cache map, -2 execution
    friend bool operator==(const CallKey& a, const CallKey& b) {
      return a.owner == b.owner && a.part == b.part;
    }
    template <typename H>
    friend H AbslHashValue(H h, const CallKey& key) {
      return H::combine(std::move(h), key.owner, key.part);
    }
  };
  struct JobSide {
    std::shared_ptr<JobLog> log;
    std::shared_ptr<JobValuesMap> values;
  };
  struct PendingRequest {
    JobId job;
    Done done;  // null: it was only begun
    bool run;   // in that case, too
    Calls calls = Calls::kOnPool;
    std::optional<absl::StatusOr<ResultPtr>> outcome = {};  // of one that was only begun
  };
  using Task = absl::AnyInvocable<void()>;
  using Item = std::variant<Event, Task>;

  // False once the loop has ended.
  bool Post(Event event);
  bool Post(std::vector<Event> events);
  bool PostTask(Task task);
  // Runs `ask` on the loop and waits for it; false once the loop has ended.
  bool Ask(absl::AnyInvocable<void()> ask);

  void Load(JobId job, RequestId request, const std::vector<std::string>& entitlements,
            const std::shared_ptr<ImportedKeys>& imports, const std::string& definition);
  void Loop();
  void Feed(Event event);
  void Settle();
  void Dispatch();
  bool LookUpHere();  // false: there are none, or it is work for the pool
  void FlushLookUps();
  void LookUpWhenReady(const std::shared_ptr<ImportedKeys>& imports, Action action);
  template <typename Action>
  void Call(Action action, CallKey key, const void* owner, bool is_execution, bool cheap,
            ThreadPool& pool);
  void CancelCall(const CallKey& key);
  RequestId Post(PendingRequest request, std::vector<std::string> entitlements,
                 std::shared_ptr<ImportedKeys> imports, std::string definition);
  void Finish(RequestId request, absl::StatusOr<ResultPtr> result);
  void Withdraw(RequestId request, const absl::Status& cause);

  void Do(action::MakeCacheMap& action);
  void Do(action::ComputeContent& action);
  void Do(action::Execute& action);
  void Do(action::LoadNested& action);
  void Do(action::Load& action);
  void Do(action::Query& action);
  void Do(action::FindRecords& action);
  void Do(action::CancelCacheMap& action);
  void Do(action::CancelContent& action);
  void Do(action::CancelExecute& action);
  void Do(action::FinishRequest& action);
  void Do(action::Subscribe& action);
  void Do(action::Unsubscribe& action);
  void Do(action::Progress& action);
  void Do(action::Follow& action);
  void Do(action::Unfollow& action);
  template <typename LookUp>
  void Do(LookUp& action) {
    look_ups_.emplace_back(std::move(action));
  }

  const SolverOptions options_;
  Runner runner_;
  std::atomic<JobId> next_job_ = 1;
  std::atomic<RequestId> next_request_ = 1;

  mutable Mutex mu_;
  CondVar changed_;
  std::vector<Item> inbox_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<RequestId, PendingRequest> requests_ ABSL_GUARDED_BY(mu_);
  SolverStats stats_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;

  // Loop thread only.
  Engine engine_;
  std::vector<Event> local_;  // events of calls that ran on the loop
  std::vector<Action> actions_;
  std::vector<Action> look_ups_;
  std::chrono::steady_clock::time_point look_up_elsewhere_until_;
  absl::flat_hash_map<CallKey, std::shared_ptr<Context>> calls_;
  absl::flat_hash_map<JobId, JobSide> jobs_;
  absl::Time now_;

  // Drained and joined by Stop; used under mu_ or by what runs on the loop or the pools before.
  std::unique_ptr<ThreadPool> io_;    // look-ups and loads
  std::unique_ptr<ThreadPool> keys_;  // cache maps, content digests, definitions
  std::unique_ptr<ThreadPool> ops_;   // executions
  std::unique_ptr<ThreadPool> done_;  // callbacks
  std::thread loop_;
};

}  // namespace kiln::solver
