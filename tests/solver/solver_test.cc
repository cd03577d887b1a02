#include "solver/solver.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/memory_cache_index.h"
#include "tests/solver/graph_text.h"
#include "tests/solver/test_ops.h"

namespace kiln::solver {
namespace {

using testing::HasSubstr;

class SolverTest : public testing::Test {
 protected:
  std::unique_ptr<Solver> NewSolver(int parallelism = 0) {
    SolverOptions options;
    options.max_parallelism = parallelism;
    options.op_threads = 16;
    options.io_threads = 2;
    return Solver::Create(options, &index_, &world_, &world_);
  }

  std::shared_ptr<Job> NewJob(Solver& solver) {
    return *solver.NewJob({absl::StrCat("job", next_job_++), {"session"}, {}});
  }

  store::MemoryCacheIndex index_;
  TestWorld world_;
  std::atomic<int> next_job_ = 1;
};

TEST_F(SolverTest, SolvesADiamond) {
  auto solver = NewSolver();
  auto job = NewJob(*solver);
  const auto result = job->BuildAndWait(DefinitionOf("base:\n"
                                                     "left: base\n"
                                                     "right: base\n"
                                                     "top: left right\n"),
                                        CancelToken());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(ValueOf(*result), "top(left(base()),right(base()))");
  EXPECT_EQ(world_.total_runs(), 4);
}

TEST_F(SolverTest, Llb6_03_AfterAllJobsEndedTheResultIsLoaded) {
  auto solver = NewSolver();
  const std::string graph = DefinitionOf("a:\nb: a\n");
  ASSERT_TRUE(NewJob(*solver)->BuildAndWait(graph, CancelToken()).ok());
  world_.ResetCounts();
  const auto again = NewJob(*solver)->BuildAndWait(graph, CancelToken());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ValueOf(*again), "b(a())");
  EXPECT_EQ(world_.total_runs(), 0);
  EXPECT_EQ(world_.loads(), 1);
}

TEST_F(SolverTest, EmptyDefinitionIsTheEmptyTree) {
  auto solver = NewSolver();
  const auto result = NewJob(*solver)->BuildAndWait("", CancelToken());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result, nullptr);
}

TEST_F(SolverTest, ErrorsNameTheVertex) {
  auto solver = NewSolver();
  world_.SetOnRun("b", [](OpContext&, ExecResult) { return absl::UnknownError("exit code: 1"); });
  const auto result = NewJob(*solver)->BuildAndWait(DefinitionOf("a:\nb: a\n"), CancelToken());
  EXPECT_EQ(result.status().message(), "exit code: 1");
  EXPECT_TRUE(
      result.status().GetPayload("github.com/moby/buildkit/errdefs.Vertex+json").has_value());
}

TEST_F(SolverTest, Llb6_20_CancelDuringCacheMap) {
  auto solver = NewSolver();
  absl::Notification running;
  world_.SetOnMap("a", [&](OpContext& context, int) {
    if (!running.HasBeenNotified()) running.Notify();
    return context.cancel().SleepFor(absl::Minutes(1));
  });
  CancelSource cancel;
  std::thread canceller([&] {
    running.WaitForNotification();
    cancel.Cancel(absl::CancelledError("because"));
  });
  const auto result = NewJob(*solver)->BuildAndWait(DefinitionOf("a:\nb: a\n"), cancel.token());
  canceller.join();
  EXPECT_EQ(result.status().message(), "because");
  world_.SetOnMap("a", nullptr);
  EXPECT_TRUE(NewJob(*solver)->BuildAndWait(DefinitionOf("a:\nb: a\n"), CancelToken()).ok());
}

}  // namespace
}  // namespace kiln::solver
