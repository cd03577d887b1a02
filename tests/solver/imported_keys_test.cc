#include "solver/imported_keys.h"

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "solver/solver.h"
#include "store/base/mutex.h"
#include "store/memory_cache_index.h"
#include "tests/solver/graph_text.h"
#include "tests/solver/test_ops.h"

namespace kiln::solver {
namespace {

using store::InputKey;
using store::KeyId;

// The cache index of another daemon as a remote cache. Keys of results get ids of their own.
class FakeImports : public ImportedKeys {
 public:
  FakeImports(std::string name, store::MemoryCacheIndex* remote, TestWorld* remote_world,
              bool ready = true)
      : identity_(Digest::Of(name)), remote_(*remote), world_(*remote_world), is_ready_(ready) {}

  const Digest& identity() const override { return identity_; }
  void WhenReady(absl::AnyInvocable<void()> ready) override {
    {
      MutexLock lock(&mu_);
      if (!is_ready_) return waiting_.push_back(std::move(ready));
    }
    ready();
  }
  void BecomeReady() {
    std::vector<absl::AnyInvocable<void()>> waiting;
    {
      MutexLock lock(&mu_);
      is_ready_ = true;
      waiting.swap(waiting_);
    }
    for (auto& ready : waiting) ready();
  }

  std::vector<KeyId> Query(absl::Span<const InputKey> keys, int input,
                           const store::OpOutput& op) const override {
    std::vector<InputKey> theirs(keys.begin(), keys.end());
    MutexLock lock(&mu_);
    for (InputKey& key : theirs)
      if (const auto it = ours_.find(key.key); it != ours_.end()) key.key = it->second;
    std::vector<KeyId> targets;
    const std::vector<KeyId> found = remote_.Query(theirs, input, op).value();
    for (const KeyId& target : found) {
      targets.push_back(Digest::Of(absl::StrCat("imported ", target.ToString())));
      ours_[targets.back()] = target;
    }
    return targets;
  }
  std::vector<store::CacheRecord> Records(const KeyId& key) const override {
    MutexLock lock(&mu_);
    const auto it = ours_.find(key);
    if (it == ours_.end()) return {};
    std::vector<store::CacheRecord> records = remote_.Records(it->second).value();
    for (auto& record : records) record.result_id = absl::StrCat("import-", record.result_id);
    return records;
  }
  absl::StatusOr<ResultPtr> Load(absl::string_view result_id) const override {
    if (!absl::ConsumePrefix(&result_id, "import-")) return absl::InternalError("not ours");
    if (broken) return absl::NotFoundError("the blob is gone");
    absl::StatusOr<ResultPtr> result = world_.Load(result_id);
    if (!result.ok()) return result;
    // Has a name of its own here.
    return std::make_shared<TestResult>(absl::StrCat("imported-", (*result)->Id()),
                                        ValueOf(*result));
  }
  absl::StatusOr<store::PortableNode> Export(const KeyId&) const override {
    return absl::UnimplementedError("not needed");
  }

  bool broken = false;

 private:
  const Digest identity_;
  store::MemoryCacheIndex& remote_;
  TestWorld& world_;
  mutable Mutex mu_;
  mutable std::map<KeyId, KeyId> ours_ ABSL_GUARDED_BY(mu_);
  bool is_ready_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::AnyInvocable<void()>> waiting_ ABSL_GUARDED_BY(mu_);
};

struct Machine {
  store::MemoryCacheIndex index;
  TestWorld world;
  std::unique_ptr<Solver> solver;
  int jobs = 0;

  Machine() {
    SolverOptions options;
    options.op_threads = 8;
    options.io_threads = 2;
    solver = Solver::Create(options, &index, &world, &world);
  }

  std::shared_ptr<Job> NewJob(std::shared_ptr<ImportedKeys> imports) {
    JobOptions options;
    options.id = absl::StrCat("job", jobs++);
    options.session_ids = {"session"};
    options.imports = std::move(imports);
    return *solver->NewJob(options);
  }
  std::string Build(absl::string_view graph, std::shared_ptr<ImportedKeys> imports = nullptr) {
    auto job = NewJob(std::move(imports));
    const auto result = job->BuildAndWait(DefinitionOf(graph), CancelToken());
    return result.ok() ? ValueOf(*result) : std::string(result.status().message());
  }
  int RunsOf(absl::string_view graph, std::shared_ptr<ImportedKeys> imports = nullptr) {
    world.ResetCounts();
    Build(graph, std::move(imports));
    return world.total_runs();
  }
};

constexpr char kChain[] = "base:\nstep: base\ntop: step\n";

class ImportedKeysTest : public testing::Test {
 protected:
  std::shared_ptr<FakeImports> Imports(std::string name = "remote", bool ready = true) {
    return std::make_shared<FakeImports>(std::move(name), &remote_.index, &remote_.world, ready);
  }
  Machine remote_, here_;
};

TEST_F(ImportedKeysTest, OnlyTheWantedResultIsLoaded) {
  remote_.Build(kChain);
  remote_.world.ResetCounts();
  EXPECT_EQ(here_.Build(kChain, Imports()), "top(step(base()))");
  EXPECT_EQ(here_.world.total_runs(), 0);
  EXPECT_EQ(remote_.world.loads(), 1);
}

TEST_F(ImportedKeysTest, LookUpsWaitUntilTheKeysAreThere) {
  remote_.Build(kChain);
  const auto imports = Imports("remote", false);
  const auto job = here_.NewJob(imports);
  std::thread later([&] {
    while (here_.world.calls("base").maps == 0) std::this_thread::yield();
    imports->BecomeReady();
  });
  EXPECT_TRUE(job->BuildAndWait(DefinitionOf(kChain), CancelToken()).ok());
  later.join();
  EXPECT_EQ(here_.world.total_runs(), 0);
}

TEST_F(ImportedKeysTest, ServeOnlyThoseWhoImport) {
  // The remote lies about "step".
  remote_.world.SetOnRun("step", [](OpContext&, ExecResult made) -> absl::StatusOr<ExecResult> {
    made.outputs[0] = std::make_shared<TestResult>("evil", "evil");
    return made;
  });
  const char* graph = "base:\nstep: base\n";
  const char* longer = "base:\nstep: base\ntop: step\n";
  remote_.Build(graph);
  remote_.world.Retain(std::make_shared<TestResult>("evil", "evil")).IgnoreError();
  const auto imports = Imports();
  const auto victim = here_.NewJob(imports);
  const auto evil = victim->BuildAndWait(DefinitionOf(longer), CancelToken());
  ASSERT_TRUE(evil.ok()) << evil.status();
  EXPECT_EQ(ValueOf(*evil), "top(evil)");
  // Who does not import it finds nothing of it, while the importing job lives as after it.
  EXPECT_EQ(here_.Build(longer), "top(step(base()))");
  // With results of our own these are taken, whatever the import says.
  EXPECT_EQ(here_.Build(longer, Imports("another")), "top(step(base()))");
}

TEST_F(ImportedKeysTest, WorkOnTopOfThemIsFoundByTheSameImport) {
  remote_.Build("base:\nstep: base\n");
  EXPECT_EQ(here_.RunsOf(kChain, Imports()), 1);
  EXPECT_EQ(here_.RunsOf(kChain, Imports()), 0);
  EXPECT_EQ(here_.RunsOf(kChain), 3);
}

TEST_F(ImportedKeysTest, ContentIsTrueForAll) {
  remote_.Build("base:\nstep: base\n");
  const char* graph = "base:\nstep: base\ntop: step content=0\n";
  EXPECT_EQ(here_.RunsOf(graph, Imports()), 1);  // top
  EXPECT_EQ(here_.RunsOf(graph), 2);             // base, step; top by its content
}

TEST_F(ImportedKeysTest, WhatCannotBeLoadedIsRun) {
  remote_.Build(kChain);
  const auto imports = Imports();
  imports->broken = true;
  EXPECT_EQ(here_.Build(kChain, imports), "top(step(base()))");
  EXPECT_EQ(here_.world.total_runs(), 3);
}

TEST_F(ImportedKeysTest, BothSidesOfADiamond) {
  const char* graph = "base:\nleft: base\nright: base\ntop: left right\n";
  remote_.Build("base:\nleft: base\n");
  here_.Build("base:\nright: base\n");
  EXPECT_EQ(here_.RunsOf(graph, Imports()), 1);
  remote_.Build(graph);
  EXPECT_EQ(here_.RunsOf(graph, Imports("newer")), 0);
}

TEST_F(ImportedKeysTest, SolvedTellsKeysOfTheWholeGraph) {
  const char* graph = "base:\nstep: base\ntop: step content=0 sel=0:/src base\n";
  const auto job = here_.NewJob(nullptr);
  ASSERT_TRUE(job->BuildAndWait(DefinitionOf(graph), CancelToken()).ok());
  const auto solved = job->Solved(DefinitionOf(graph));
  ASSERT_TRUE(solved.ok()) << solved.status();
  ASSERT_EQ(solved->edges.size(), 3u);
  const SolvedGraph::Edge& top = solved->edges.back();
  EXPECT_TRUE(top.complete);
  EXPECT_EQ(ValueOf(top.result), "top(step(base()),base())");
  ASSERT_EQ(top.inputs.size(), 2u);
  EXPECT_EQ(top.inputs[0].selector, "/src");
  EXPECT_TRUE(top.inputs[0].content.has_value());
  EXPECT_FALSE(top.inputs[1].content.has_value());
  ASSERT_EQ(top.result_keys.size(), 1u);
  const auto node = here_.index.Export(top.result_keys[0]);
  ASSERT_TRUE(node.ok());
  EXPECT_EQ(node->op.op_digest, top.op_digests[0]);
  EXPECT_EQ(job->Solved("")->edges.size(), 0u);
}

}  // namespace
}  // namespace kiln::solver
