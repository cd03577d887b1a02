#include "solver/solver.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "store/memory_cache_index.h"
#include "tests/solver/graph_text.h"
#include "tests/solver/test_ops.h"

namespace kiln::solver {
namespace {

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

TEST_F(SolverTest, KnownContentIsNotComputed) {
  auto solver = NewSolver();
  ASSERT_TRUE(NewJob(*solver)
                  ->BuildAndWait(DefinitionOf("a: value=v\nb: a key=k content=0\n"), CancelToken())
                  .ok());
  world_.ResetCounts();
  world_.SetContentKnown("c");
  const auto again = NewJob(*solver)->BuildAndWait(
      DefinitionOf("a2: value=v\nc: a2 key=k content=0\n"), CancelToken());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ValueOf(*again), "k(v)");
  EXPECT_EQ(world_.calls("c").contents, 0);
  EXPECT_EQ(world_.calls("c").runs, 0);
}

TEST_F(SolverTest, BuildGoesOnWithWhatWasBegun) {
  auto solver = NewSolver();
  const std::string graph = DefinitionOf("files: early\ntop: files\n");
  for (const bool run : {false, true}) {
    auto job = NewJob(*solver);
    job->Begin(graph, run);
    job->Begin(graph, run);
    const auto result = job->BuildAndWait(graph, CancelToken());
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(ValueOf(*result), "top(files())");
    EXPECT_EQ(world_.calls("top").runs, 1);
    // What was begun is used up.
    EXPECT_TRUE(job->BuildAndWait(graph, CancelToken()).ok());
  }
}

TEST_F(SolverTest, WhatWasBegunWithRunIsBuilt) {
  auto solver = NewSolver();
  auto job = NewJob(*solver);
  absl::Notification ran;
  world_.SetOnRun("top", [&](OpContext&, ExecResult made) -> absl::StatusOr<ExecResult> {
    ran.Notify();
    return made;
  });
  job->Begin(DefinitionOf("top:\n"), true);
  ran.WaitForNotification();
}

TEST_F(SolverTest, FaultOfWhatWasBegunIsToldByItsBuild) {
  auto solver = NewSolver();
  auto job = NewJob(*solver);
  job->Begin("nonsense", false);
  const auto result = job->BuildAndWait("nonsense", CancelToken());
  EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
  // A cancelled build takes with it what was begun.
  job->Begin(DefinitionOf("files: early\n"), false);
  job->Cancel(absl::CancelledError("enough"));
  EXPECT_EQ(job->BuildAndWait(DefinitionOf("files: early\n"), CancelToken()).status(),
            absl::CancelledError("enough"));
}

TEST_F(SolverTest, EmptyDefinitionIsTheEmptyTree) {
  auto solver = NewSolver();
  const auto result = NewJob(*solver)->BuildAndWait("", CancelToken());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result, nullptr);
}

TEST_F(SolverTest, ReleasedJobHoldsNoResult) {
  auto solver = NewSolver();
  for (int round = 0; round < 50; ++round) {
    auto job = NewJob(*solver);
    auto result = job->BuildAndWait(DefinitionOf("a:\nb: a\n"), CancelToken());
    ASSERT_TRUE(result.ok()) << result.status();
    const std::weak_ptr held = *result;
    *result = nullptr;
    EXPECT_FALSE(held.expired());
    job->Release(absl::CancelledError("done"));
    EXPECT_TRUE(held.expired()) << round;
  }
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

// Llb6_07, 22 to 24 with real threads: many jobs with equal and different graphs, cancelled at any
// moment, through one solver.
TEST_F(SolverTest, Llb6_07_ManyJobsAtOnce) {
  auto solver = NewSolver(4);
  world_.SetOnRun("x", [](OpContext& context, ExecResult made) -> absl::StatusOr<ExecResult> {
    context.progress().Log({1, "hello", absl::Now()});
    context.SessionIds();
    if (absl::Status status = context.cancel().SleepFor(absl::Microseconds(200)); !status.ok())
      return status;
    return made;
  });
  std::vector<std::thread> clients;
  for (int client = 0; client < 8; ++client) {
    clients.emplace_back([&, client] {
      for (int round = 0; round < 25; ++round) {
        const std::string own = absl::StrCat("own", client, "x", round);
        const std::string graph = DefinitionOf(
            absl::StrCat("s: key=s", round, "\nx: s key=x", round, " content=0\n", own, ": s key=y",
                         round, "\nn: x ", own, " cheap key=n", round, "\n"));
        auto job = NewJob(*solver);
        CancelSource cancel;
        const bool cancels = (client + round) % 3 == 0;
        std::thread canceller;
        if (cancels) {
          canceller = std::thread([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(50 * client));
            cancel.Cancel(absl::CancelledError("changed my mind"));
          });
        }
        const auto result = job->BuildAndWait(graph, cancel.token());
        if (canceller.joinable()) canceller.join();
        if (!cancels) {
          ASSERT_TRUE(result.ok()) << result.status();
          EXPECT_EQ(ValueOf(*result), absl::StrCat("n", round, "(x", round, "(s", round, "()),y",
                                                   round, "(s", round, "()))"));
        } else if (!result.ok()) {
          EXPECT_EQ(result.status().message(), "changed my mind");
        }
        job->stats();
        bool ended = false;
        job->progress().Read(0, 1000, &ended);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  solver = nullptr;
}

TEST_F(SolverTest, DestroyedWhileBuilding) {
  auto solver = NewSolver();
  absl::Notification running;
  world_.SetOnRun("a", [&](OpContext& context, ExecResult) -> absl::StatusOr<ExecResult> {
    running.Notify();
    return context.cancel().SleepFor(absl::Minutes(1));
  });
  auto job = NewJob(*solver);
  absl::Notification done;
  job->Build(DefinitionOf("a:\n"), [&](absl::StatusOr<ResultPtr> result) {
    EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
    done.Notify();
  });
  running.WaitForNotification();
  solver = nullptr;
  EXPECT_TRUE(done.HasBeenNotified());
  EXPECT_TRUE(absl::IsUnavailable(job->BuildAndWait(DefinitionOf("a:\n"), CancelToken()).status()));
}

TEST_F(SolverTest, JobIdsAreUniqueWhileTheyLive) {
  auto solver = NewSolver();
  auto job = *solver->NewJob({"x", {}, {}});
  EXPECT_EQ(solver->NewJob({"x", {}, {}}).status().message(), "job ID x exists");
  EXPECT_EQ(solver->FindJob("x"), job);
  job = nullptr;
  EXPECT_EQ(solver->FindJob("x"), nullptr);
  EXPECT_TRUE(solver->NewJob({"x", {}, {}}).ok());
}

TEST_F(SolverTest, StepsOfAJobAreShown) {
  auto solver = NewSolver();
  auto job = NewJob(*solver);
  const absl::Status status = job->RunStep("export", "exporting", [](ProgressSink& sink) {
    sink.Log({1, "line", absl::Now()});
    return absl::UnknownError("disk full");
  });
  EXPECT_EQ(status.message(), "disk full");
  job->progress().End();
  bool ended = false;
  const auto events = job->progress().Read(0, 100, &ended);
  EXPECT_TRUE(ended);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(std::get<VertexUpdate>(*events[0]).digest, Digest::Of("export"));
  EXPECT_EQ(std::get<VertexLogUpdate>(*events[2]).log.data, "line");
  EXPECT_EQ(std::get<VertexUpdate>(*events[3]).error, "disk full");
}

TEST_F(SolverTest, CountsWhatItDid) {
  auto solver = NewSolver();
  const std::string graph = DefinitionOf("a:\nb: a\n");
  auto first = NewJob(*solver), second = NewJob(*solver);
  ASSERT_TRUE(first->BuildAndWait(graph, CancelToken()).ok());
  ASSERT_TRUE(second->BuildAndWait(graph, CancelToken()).ok());
  EXPECT_EQ(first->stats().executed, 2u);
  EXPECT_EQ(second->stats().executed, 0u);
  EXPECT_EQ(second->stats().vertices, 2u);
  EXPECT_EQ(solver->stats().vertices_joined, 2u);
  EXPECT_EQ(solver->stats().executions, 2u);
}

TEST_F(SolverTest, Llb6_109_DeepChainIsSolved) {
  auto solver = NewSolver();
  std::string graph = "v0: value=x cheap\n";
  for (int i = 1; i < 20000; ++i) absl::StrAppend(&graph, "v", i, ": v", i - 1, " value=x cheap\n");
  const auto result = NewJob(*solver)->BuildAndWait(DefinitionOf(graph), CancelToken());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(ValueOf(*result), "x");
}

}  // namespace
}  // namespace kiln::solver
