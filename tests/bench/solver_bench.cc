// The solver alone: ops that do nothing, through the public face, definitions loaded beforehand or
// not. One item is one vertex.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/op_bytes.h"
#include "solver/definition.h"
#include "solver/internal/engine.h"
#include "solver/internal/progress_hub.h"
#include "solver/internal/runner.h"
#include "solver/solver.h"
#include "store/base/check.h"
#include "store/cache_index.h"
#include "store/memory_cache_index.h"

namespace kiln::solver {
namespace {

class NoResult : public Result {
 public:
  std::string Id() const override { return "none::"; }
};

class NoOp : public Op {
 public:
  explicit NoOp(const VertexInfo& vertex, size_t inputs)
      : digest_(vertex.digest.ToString()), inputs_(inputs) {}
  absl::StatusOr<CacheMap> MakeCacheMap(OpContext&, int) override {
    CacheMap map;
    map.op_digest = digest_;
    map.inputs.resize(inputs_);
    return map;
  }
  absl::StatusOr<std::string> ContentDigest(OpContext&, int, const ResultPtr&) override {
    return absl::UnimplementedError("no content");
  }
  absl::StatusOr<ExecResult> Execute(OpContext&, absl::Span<const ResultPtr>) override {
    static const ResultPtr result = std::make_shared<NoResult>();
    return ExecResult{{result}, {}};
  }
  bool TakesSlot() const override { return false; }
  bool CheapCacheMap() const override { return true; }
  bool CheapExecute() const override { return true; }

 private:
  const std::string digest_;
  const size_t inputs_;
};

class NoOps : public OpResolver, public ResultLoader {
 public:
  explicit NoOps(size_t inputs) : inputs_(inputs) {}
  absl::StatusOr<std::shared_ptr<Op>> Resolve(absl::string_view, const VertexInfo& info) override {
    return std::make_shared<NoOp>(info, info.name.rfind("s://", 0) == 0 ? 0 : inputs_);
  }
  bool Exists(absl::string_view) override { return true; }
  absl::StatusOr<ResultPtr> Load(absl::string_view) override {
    return ResultPtr(std::make_shared<NoResult>());
  }
  absl::Status Retain(const ResultPtr&) override { return absl::OkStatus(); }

 private:
  const size_t inputs_;
};

// Every vertex has one input (a chain) or two (the one before and the one half way back).
std::string Graph(int64_t vertices, bool chain) {
  pb::Definition definition;
  std::vector<std::string> digests;
  for (int64_t i = 0; i < vertices; ++i) {
    pb::Op op;
    if (i == 0) {
      op.mutable_source()->set_identifier("s://base");
    } else {
      op.mutable_exec()->mutable_meta()->add_args(absl::StrCat("step ", i));
      op.mutable_exec()->add_mounts()->set_dest("/");
      op.add_inputs()->set_digest(digests.back());
      if (!chain) op.add_inputs()->set_digest(digests[static_cast<size_t>(i / 2)]);
    }
    std::string bytes = CanonicalBytes(op);
    digests.push_back(Digest::Of(bytes).ToString());
    definition.add_def(std::move(bytes));
  }
  pb::Op terminal;
  terminal.add_inputs()->set_digest(digests.back());
  definition.add_def(CanonicalBytes(terminal));
  return CanonicalBytes(definition);
}

// Definition parsed, checked, hashed.
void BM_Load(benchmark::State& state) {
  const std::string definition = Graph(state.range(0), true);
  for (auto _ : state) benchmark::DoNotOptimize(LoadDefinition(definition, {}));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Load)->Arg(10'000)->Arg(200'000)->Unit(benchmark::kMillisecond);

// An index that knows nothing and answers at once.
class NoIndex : public store::MemoryCacheIndex {
 public:
  absl::StatusOr<std::vector<store::KeyId>> Query(absl::Span<const store::InputKey>, int,
                                                  const store::OpOutput&) override {
    return std::vector<store::KeyId>();
  }
  absl::StatusOr<std::vector<store::CacheRecord>> Records(const store::KeyId&) override {
    return std::vector<store::CacheRecord>();
  }
  absl::StatusOr<store::KeyId> Save(const store::OpOutput& op,
                                    absl::Span<const std::vector<store::InputKey>>,
                                    const store::CacheRecord&) override {
    return RootKey(op);
  }
};

// The engine on one core, every action answered at once.
void BM_Engine(benchmark::State& state) {
  const bool chain = state.range(1) == 0;
  NoOps ops(chain ? 1 : 2);
  const std::string definition = Graph(state.range(0), chain);
  for (auto _ : state) {
    state.PauseTiming();
    NoIndex index;
    const Runner runner(&index, &ops, &ops);
    absl::StatusOr<LoadedGraph> loaded = LoadDefinition(definition, {});
    KILN_CHECK(loaded.ok());
    ResolveOps(ops, &*loaded);
    auto graph = std::make_shared<LoadedGraph>(*std::move(loaded));
    auto engine = std::make_unique<Engine>(0);
    auto job_log = std::make_shared<JobLog>();
    std::vector<Action> actions;
    std::vector<Event> events;
    state.ResumeTiming();
    events.push_back(event::NewJob{1, {}, {}});
    events.push_back(event::Build{1, 1, graph});
    OpContext* const no_context = nullptr;
    bool done = false;
    while (!events.empty()) {
      std::vector<Event> now;
      now.swap(events);
      for (Event& event : now) engine->Step(std::move(event), absl::UnixEpoch(), &actions);
      for (Action& action : actions) {
        if (auto* map = std::get_if<action::MakeCacheMap>(&action)) {
          events.push_back(runner.Run(*map, *no_context));
        } else if (auto* run = std::get_if<action::Execute>(&action)) {
          events.push_back(runner.Run(*run, *no_context));
        } else if (auto* query = std::get_if<action::Query>(&action)) {
          events.push_back(runner.Run(*query));
        } else if (auto* find = std::get_if<action::FindRecords>(&action)) {
          events.push_back(runner.Run(*find));
        } else if (auto* save = std::get_if<action::Save>(&action)) {
          events.push_back(runner.Run(*save));
        } else if (auto* subscribe = std::get_if<action::Subscribe>(&action)) {
          for (const auto& log : subscribe->logs) log->Subscribe(job_log);
        } else if (auto* progress = std::get_if<action::Progress>(&action)) {
          progress->log->Tell(progress->mark, progress->now, progress->error);
        } else if (std::holds_alternative<action::FinishRequest>(action)) {
          done = true;
        }
      }
      actions.clear();
    }
    KILN_CHECK(done);
    state.PauseTiming();
    engine.reset();
    graph.reset();
    job_log.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Engine)
    ->ArgNames({"vertices", "wide"})
    ->Args({10'000, 0})
    ->Args({100'000, 0})
    ->Args({1'000'000, 0})
    ->Args({100'000, 1})
    ->Args({1'000'000, 1})
    ->Unit(benchmark::kMillisecond);

// Everything: definition, driver, pools, index in memory. range(1): 0 cold, 1 all cached.
void BM_Solver(benchmark::State& state) {
  const bool cached = state.range(1) == 1;
  NoOps ops(2);
  const std::string definition = Graph(state.range(0), false);
  store::MemoryCacheIndex warm;
  SolverOptions options;
  options.io_threads = 1;
  const auto build = [&](store::CacheIndex* index) {
    auto solver = Solver::Create(options, index, &ops, &ops);
    auto job = *solver->NewJob({"job", {}, {}});
    KILN_CHECK(job->BuildAndWait(definition, CancelToken()).ok());
  };
  if (cached) build(&warm);
  for (auto _ : state) {
    if (cached) {
      build(&warm);
    } else {
      store::MemoryCacheIndex cold;
      build(&cold);
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Solver)
    ->ArgNames({"vertices", "cached"})
    ->Args({10'000, 0})
    ->Args({10'000, 1})
    ->Args({100'000, 0})
    ->Args({100'000, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace kiln::solver

int main(int argc, char** argv) {
  // Debian's Abseil looks for lock cycles on every lock; kilnd turns that off as well.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
