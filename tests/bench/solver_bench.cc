// The solver alone: ops that do nothing. One item is one vertex.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <array>
#include <cstring>
#include <fstream>
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
      : digest_(vertex.digest), inputs_(inputs) {}
  absl::StatusOr<CacheMap> MakeCacheMap(OpContext&, int) override {
    CacheMap map;
    map.op_digest = digest_.ToString();
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
  const Digest digest_;
  const size_t inputs_;
};

class NoOps : public OpResolver, public ResultLoader {
 public:
  absl::StatusOr<std::shared_ptr<Op>> Resolve(absl::string_view, const VertexInfo& info) override {
    return std::make_shared<NoOp>(info, info.inputs.size());
  }
  bool Exists(absl::string_view) override { return true; }
  absl::StatusOr<ResultPtr> Load(absl::string_view) override {
    return ResultPtr(std::make_shared<NoResult>());
  }
  absl::Status Retain(const ResultPtr&) override { return absl::OkStatus(); }
};

enum Shape {
  kChain,    // every vertex has the one before as its input
  kTwo,      // and the one half way back as well
  kDiamond,  // layers of two, each of them upon both of the layer before
  kWide,     // all upon one base, and one upon all of them
};

// The inputs of vertex `i` of `count`.
std::vector<int64_t> InputsOf(Shape shape, int64_t i, int64_t count) {
  if (i == 0) return {};
  switch (shape) {
    case kChain:
      return {i - 1};
    case kTwo:
      return {i - 1, i / 2};
    case kDiamond:
      if (i < 3) return {0};
      return {(i - 1) / 2 * 2 - 1, (i - 1) / 2 * 2};
    case kWide:
      if (i + 1 < count) return {0};
      break;
  }
  std::vector<int64_t> all;
  for (int64_t input = 1; input < i; ++input) all.push_back(input);
  return all;
}

std::string Graph(int64_t vertices, Shape shape) {
  pb::Definition definition;
  std::vector<std::string> digests;
  for (int64_t i = 0; i < vertices; ++i) {
    pb::Op op;
    for (int64_t input : InputsOf(shape, i, vertices))
      op.add_inputs()->set_digest(digests[static_cast<size_t>(input)]);
    if (i == 0) {
      op.mutable_source()->set_identifier("s://base");
    } else {
      op.mutable_exec()->mutable_meta()->add_args(absl::StrCat("step ", i));
      op.mutable_exec()->add_mounts()->set_dest("/");
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
  const std::string definition = Graph(state.range(0), kChain);
  for (auto _ : state) benchmark::DoNotOptimize(LoadDefinition(definition, {}));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Load)->Arg(10'000)->Arg(100'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);

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
  absl::StatusOr<store::KeyId> Save(const store::OpOutput&,
                                    absl::Span<const std::vector<store::InputKey>>,
                                    const store::CacheRecord&) override {
    const uint64_t number = ++saved_ * 0x9E3779B97F4A7C15;  // spread like a digest
    std::array<uint8_t, Digest::kSize> id = {};
    std::memcpy(id.data(), &number, sizeof(number));
    return Digest(id);
  }
  absl::Duration MeanDuration(absl::string_view) override { return absl::ZeroDuration(); }
  void RecordDuration(absl::string_view, absl::Duration) override {}

 private:
  uint64_t saved_ = 0;
};

// The engine on one core, every action answered at once.
class OneCore {
 public:
  OneCore() = default;

  std::shared_ptr<LoadedGraph> Load(const std::string& definition) {
    absl::StatusOr<LoadedGraph> loaded = LoadDefinition(definition, {});
    KILN_CHECK(loaded.ok());
    ResolveOps(ops_, &*loaded);
    return std::make_shared<LoadedGraph>(*std::move(loaded));
  }

  // Not inlined, so that a profiler finds it.
  __attribute__((noinline)) void Solve(std::shared_ptr<LoadedGraph> graph) {
    bool done = false;
    events_.push_back(event::NewJob{1, {}, {}});
    events_.push_back(event::Build{1, 1, std::move(graph)});
    std::vector<Event> now;
    while (!events_.empty() || engine_.busy()) {
      now.swap(events_);
      for (Event& event : now) engine_.Step(std::move(event), absl::UnixEpoch(), &actions_);
      now.clear();
      engine_.Continue(absl::UnixEpoch(), &actions_);
      for (Action& action : actions_) done = Do(action) || done;
      actions_.clear();
    }
    KILN_CHECK(done);
  }

  void Release() {
    engine_.Step(event::EndJob{1}, absl::UnixEpoch(), &actions_);
    engine_.Continue(absl::UnixEpoch(), &actions_);
    for (Action& action : actions_) Do(action);
    actions_.clear();
    log_ = nullptr;
    KILN_CHECK(engine_.Idle());
  }

 private:
  // True for the end of the request.
  bool Do(Action& action) {
    OpContext* const no_context = nullptr;
    if (auto* map = std::get_if<action::MakeCacheMap>(&action)) {
      events_.push_back(runner_.Run(*map, *no_context));
    } else if (auto* run = std::get_if<action::Execute>(&action)) {
      events_.push_back(runner_.Run(*run, *no_context));
    } else if (auto* query = std::get_if<action::Query>(&action)) {
      events_.push_back(runner_.Run(*query));
    } else if (auto* find = std::get_if<action::FindRecords>(&action)) {
      events_.push_back(runner_.Run(*find));
    } else if (auto* save = std::get_if<action::Save>(&action)) {
      events_.push_back(runner_.Run(*save));
    } else if (auto* subscribe = std::get_if<action::Subscribe>(&action)) {
      SubscribeAll(subscribe->logs, log_);
    } else if (auto* unsubscribe = std::get_if<action::Unsubscribe>(&action)) {
      for (const auto& log : unsubscribe->logs) log->Unsubscribe(log_.get());
    } else if (auto* progress = std::get_if<action::Progress>(&action)) {
      progress->log->Tell(progress->mark, progress->now, progress->error);
    }
    return std::holds_alternative<action::FinishRequest>(action);
  }

  NoIndex index_;
  NoOps ops_;
  Runner runner_{&index_, &ops_, &ops_};
  Engine engine_{0};
  std::shared_ptr<JobLog> log_ = std::make_shared<JobLog>();
  std::vector<Action> actions_;
  std::vector<Event> events_;
};

void BM_Engine(benchmark::State& state) {
  const std::string definition = Graph(state.range(0), static_cast<Shape>(state.range(1)));
  for (auto _ : state) {
    state.PauseTiming();
    auto solver = std::make_unique<OneCore>();
    std::shared_ptr<LoadedGraph> graph = solver->Load(definition);
    state.ResumeTiming();
    solver->Solve(std::move(graph));
    state.PauseTiming();
    solver = nullptr;
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Engine)
    ->ArgNames({"vertices", "shape"})
    ->ArgsProduct({{10'000, 100'000, 1'000'000}, {kChain, kTwo, kDiamond, kWide}})
    ->Unit(benchmark::kMillisecond);

double HeapBytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

double ResidentBytes() {
  malloc_trim(0);
  size_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return static_cast<double>(resident) * 4096;
}

// What the graph takes, ops and progress included: once it is solved, and once its job is gone.
void BM_Memory(benchmark::State& state) {
  const double vertices = static_cast<double>(state.range(0));
  const std::string definition = Graph(state.range(0), static_cast<Shape>(state.range(1)));
  for (auto _ : state) {
    const double heap = HeapBytes(), resident = ResidentBytes();
    OneCore solver;
    solver.Solve(solver.Load(definition));
    state.counters["heap/vertex"] = (HeapBytes() - heap) / vertices;
    state.counters["rss"] = ResidentBytes() - resident;
    solver.Release();
    state.counters["heap_released"] = HeapBytes() - heap;
    state.counters["rss_released"] = ResidentBytes() - resident;
  }
}
BENCHMARK(BM_Memory)
    ->ArgNames({"vertices", "shape"})
    ->ArgsProduct({{100'000}, {kChain, kTwo, kDiamond, kWide}})
    ->Args({1'000'000, kChain})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// Everything: definition, driver, pools, index in memory. range(1): 0 cold, 1 all cached.
void BM_Solver(benchmark::State& state) {
  const bool cached = state.range(1) == 1;
  NoOps ops;
  const std::string definition = Graph(state.range(0), kTwo);
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
    ->ArgsProduct({{10'000, 100'000}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->MeasureProcessCPUTime()
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
