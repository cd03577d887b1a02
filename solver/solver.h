#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "solver/imported_keys.h"
#include "solver/op.h"
#include "solver/progress.h"
#include "solver/solved_graph.h"
#include "solver/stats.h"
#include "store/base/cancel.h"
#include "store/cache_index.h"

namespace kiln::solver {

struct SolverOptions {
  int max_parallelism = 0;  // slots for source, exec and file ops; 0 = op_threads
  int op_threads = 64;      // threads that run ops
  int io_threads = 4;       // threads that run cache look-ups and loads
};

// What a job may do and whom it may ask.
struct JobOptions {
  std::string id;                              // the Solve's Ref
  std::vector<std::string> session_ids;        // sessions of this job, first one first
  std::vector<std::string> entitlements;       // granted: "network.host", "security.insecure", …
  std::shared_ptr<ImportedKeys> imports = {};  // remote caches it may use; null: none
};

// One solve's hold on vertices. Everything it asked for is dropped when it is destroyed or
// cancelled. May outlive the solver, which then refuses with kUnavailable. Thread-safe.
class Job {
 public:
  virtual ~Job() = default;
  virtual const std::string& id() const = 0;

  // Solves the definition's root (serialized pb.Definition). `done` is called once, on a pool
  // thread; it may block. nullptr result = the empty tree. After Cancel it gets the cause at once,
  // without waiting for work to wind down. Definition faults are kInvalidArgument with llb.md 1.4's
  // text.
  virtual void Build(std::string definition,
                     absl::AnyInvocable<void(absl::StatusOr<ResultPtr>)> done) = 0;
  // The same, waiting. Cancels what was asked when `cancel` fires.
  virtual absl::StatusOr<ResultPtr> BuildAndWait(std::string definition,
                                                 const CancelToken& cancel) = 0;

  // Begins what Build of the same definition will need, as far as that runs nothing: keys are
  // computed and looked up; only ops that run early (Op::RunsEarly) are run. With `run` all of it
  // is built. What it comes to, errors included, is for that Build to tell; the job holds it until
  // then. Does not block.
  virtual void Begin(std::string definition, bool run) = 0;

  // What is known of the keys of a definition that this job built: after a build, for exporting
  // them. Blocks. The cause when the job was cancelled.
  virtual absl::StatusOr<SolvedGraph> Solved(const std::string& definition) = 0;

  virtual void Cancel(absl::Status cause) = 0;
  // The same, returning when the job holds no result any more: those that nobody else holds are
  // free to be pruned. Blocks; not to be called by what the solver calls.
  virtual void Release(absl::Status cause) = 0;
  virtual void AddSession(std::string session_id) = 0;

  // Everything this job's vertices tell; late subscribers get it from the start.
  virtual ProgressLog& progress() = 0;

  // Runs `work` as a step of the status stream that is no LLB vertex (exporting, resolving): its
  // digest is sha256 of `id`.
  virtual absl::Status RunStep(const std::string& id, const std::string& name,
                               const std::function<absl::Status(ProgressSink&)>& work) = 0;

  // What this job's vertices took so far.
  virtual JobStats stats() = 0;
  virtual JobValues& values() = 0;
};

// The shared solver (DESIGN.md). One per daemon.
class Solver {
 public:
  // `index`, `loader` and `resolver` outlive the solver.
  static std::unique_ptr<Solver> Create(const SolverOptions& options, store::CacheIndex* index,
                                        ResultLoader* loader, OpResolver* resolver);
  virtual ~Solver() = default;

  // kAlreadyExists "job ID X exists" while one with that id lives.
  virtual absl::StatusOr<std::shared_ptr<Job>> NewJob(const JobOptions& options) = 0;
  // nullptr when there is none.
  virtual std::shared_ptr<Job> FindJob(absl::string_view id) = 0;

  // Counts since the solver was made.
  virtual SolverStats stats() const = 0;
};

}  // namespace kiln::solver
