// The solver's rules one by one, in an exact order of answers. Numbers are those of llb.md 6.
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/memory_cache_index.h"
#include "tests/solver/graph_text.h"
#include "tests/solver/step_driver.h"
#include "tests/solver/test_ops.h"

namespace kiln::solver {
namespace {

using testing::ElementsAre;
using Kind = StepDriver::Kind;

class SolverRules : public testing::Test {
 protected:
  explicit SolverRules(uint32_t slots = 0) : driver_(&world_, &index_, slots) {}

  // One job that builds the graph from beginning to end.
  std::string BuildAlone(absl::string_view graph) {
    const JobId job = driver_.NewJob();
    const RequestId request = driver_.Build(job, graph);
    driver_.DoAll();
    const std::string outcome = driver_.Outcome(request);
    driver_.EndJob(job);
    driver_.DoAll();
    return outcome;
  }
  std::vector<ProgressEventPtr> EventsOf(JobId job) {
    bool ended = false;
    return driver_.progress(job).Read(0, 100000, &ended);
  }
  // The last state of each vertex by name: "cached", "done", "error", "started" or "announced".
  std::map<std::string, std::string> ShownTo(JobId job) {
    std::map<std::string, std::string> shown;
    for (const ProgressEventPtr& event : EventsOf(job)) {
      const auto* update = std::get_if<VertexUpdate>(event.get());
      if (update == nullptr) continue;
      std::string& state = shown[update->name];
      state = "announced";
      if (update->started != absl::InfinitePast()) state = "started";
      if (update->completed != absl::InfinitePast()) state = "done";
      if (update->cached) state = "cached";
      if (!update->error.empty()) state = "error";
    }
    return shown;
  }
  std::vector<std::string> LogsOf(JobId job) {
    std::vector<std::string> lines;
    for (const ProgressEventPtr& event : EventsOf(job))
      if (const auto* log = std::get_if<VertexLogUpdate>(event.get()))
        lines.push_back(log->log.data);
    return lines;
  }

  TestWorld world_;
  store::MemoryCacheIndex index_;
  StepDriver driver_;
};

TEST_F(SolverRules, Llb6_01_TwoJobsOneRun) {
  const RequestId one = driver_.Build(driver_.NewJob(), "a:\n");
  driver_.DoAll("a");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  const RequestId two = driver_.Build(driver_.NewJob(), "a:\n");
  driver_.DoAll();
  EXPECT_EQ(world_.calls("a").runs, 1);
  ASSERT_TRUE(driver_.ResultOf(one).ok() && driver_.ResultOf(two).ok());
  EXPECT_EQ((*driver_.ResultOf(one))->Id(), (*driver_.ResultOf(two))->Id());
}

TEST_F(SolverRules, BegunRunsOnlyWhatRunsEarly) {
  const std::string graph =
      "base:\n"
      "files: early\n"
      "copy: base files content=1\n"
      "top: copy\n";
  const JobId job = driver_.NewJob();
  const RequestId request = driver_.Begin(job, graph);
  driver_.DoAll();
  EXPECT_EQ(world_.calls("files").runs, 1);
  EXPECT_EQ(world_.total_runs(), 1);
  EXPECT_FALSE(driver_.IsOver(request));
  driver_.GoOn(job, request);
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(request), "top(copy(base(),files()))");
  EXPECT_EQ(world_.total_runs(), 4);
  driver_.GoOn(job, request);  // it is over
}

// All that the cache can tell is known before the build goes on: then the root alone is loaded.
TEST_F(SolverRules, BegunFindsItsWayByContent) {
  const auto graph = [](const std::string& files) {
    return absl::StrCat("base:\n", files, ": early value=v\n", "copy1: base ", files,
                        " content=1\n", "run: copy1\n", "copy2: run ", files, " content=1\n");
  };
  const JobId first = driver_.NewJob();
  const RequestId built = driver_.Build(first, graph("files"));
  driver_.DoAll();
  ASSERT_TRUE(driver_.IsOver(built));
  driver_.EndJob(first);
  driver_.DoAll();
  world_.ResetCounts();

  const JobId job = driver_.NewJob();
  const RequestId request = driver_.Begin(job, graph("same"));
  driver_.DoAll();
  EXPECT_EQ(world_.total_runs(), 1);
  EXPECT_EQ(world_.calls("copy2").contents, 1);
  EXPECT_EQ(world_.loads(), 0);
  driver_.GoOn(job, request);
  for (const StepDriver::Pending& pending : driver_.pending())
    EXPECT_EQ(pending.kind, StepDriver::Kind::kRecords);
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(request), "copy2(run(copy1(base(),v)),v)");
  EXPECT_EQ(world_.total_runs(), 1);
  EXPECT_EQ(world_.loads(), 1);
}

TEST_F(SolverRules, BegunThatFailsIsToldWhenItGoesOn) {
  world_.SetOnRun("files", [](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
    return absl::NotFoundError("no such directory");
  });
  const JobId job = driver_.NewJob();
  const RequestId request = driver_.Begin(job, "files: early\ntop: files\n");
  driver_.DoAll();
  driver_.GoOn(job, request);
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(request), "error: no such directory");
  EXPECT_EQ(world_.total_runs(), 1);
}

TEST_F(SolverRules, BegunEndsWithItsJob) {
  const JobId job = driver_.NewJob();
  driver_.Begin(job, "files: early\ntop: files\n");
  driver_.Do(StepDriver::Kind::kMap, "files");
  driver_.DoAll("files");
  ASSERT_TRUE(driver_.IsPending(StepDriver::Kind::kRun, "files"));
  driver_.EndJob(job);
  EXPECT_TRUE(driver_.pending()[0].cancelled);
  driver_.DoAll();
  EXPECT_TRUE(driver_.engine().Idle());
}

TEST_F(SolverRules, Llb6_02_HeldResultIsGivenAtOnce) {
  driver_.Build(driver_.NewJob(), "a:\nb: a\n");
  driver_.DoAll();
  world_.ResetCounts();
  const RequestId later = driver_.Build(driver_.NewJob(), "a:\nb: a\n");
  EXPECT_EQ(driver_.Outcome(later), "b(a())");
  EXPECT_EQ(world_.calls("b").maps, 0);
  EXPECT_EQ(world_.total_runs() + world_.loads(), 0);
}

TEST_F(SolverRules, Llb6_03_ReleasedVertexIsLoaded) {
  EXPECT_EQ(BuildAlone("a:\n"), "a()");
  EXPECT_TRUE(driver_.engine().Idle());
  EXPECT_EQ(BuildAlone("a:\n"), "a()");
  EXPECT_EQ(world_.calls("a").maps, 2);
  EXPECT_EQ(world_.calls("a").runs, 1);
  EXPECT_EQ(world_.loads(), 1);
}

TEST_F(SolverRules, Llb6_04_EqualKeyOfAnotherVertexIsLoaded) {
  BuildAlone("a: key=k\n");
  EXPECT_EQ(BuildAlone("b: key=k\n"), "k()");
  EXPECT_EQ(world_.calls("b").runs, 0);
  EXPECT_EQ(world_.loads(), 1);
}

TEST_F(SolverRules, Llb6_05_EqualKeysRunOnceAtOnce) {
  const RequestId one = driver_.Build(driver_.NewJob(), "a: key=k\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  const RequestId two = driver_.Build(driver_.NewJob(), "b: key=k\n");
  driver_.DoAll("a");
  EXPECT_FALSE(driver_.IsOver(two));
  driver_.DoAll();
  EXPECT_EQ(world_.total_runs(), 1);
  ASSERT_TRUE(driver_.ResultOf(one).ok() && driver_.ResultOf(two).ok());
  EXPECT_EQ((*driver_.ResultOf(one))->Id(), (*driver_.ResultOf(two))->Id());
}

TEST_F(SolverRules, Llb6_06_EachLevelOfEqualGraphsRunsOnce) {
  driver_.Build(driver_.NewJob(), "a: key=k\nb: a key=l\n");
  driver_.Build(driver_.NewJob(), "c: key=k\nd: c key=l\n");
  driver_.DoAll();
  EXPECT_EQ(world_.total_runs(), 2);
}

TEST_F(SolverRules, Llb6_08_GraphsThatJoinInOppositeOrder) {
  const RequestId one = driver_.Build(driver_.NewJob(), "s:\na1: s key=x\nb1: a1 key=y\n");
  const RequestId two = driver_.Build(driver_.NewJob(), "s:\nb2: s key=y\na2: b2 key=x\n");
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(one), "y(x(s()))");
  EXPECT_EQ(driver_.Outcome(two), "x(y(s()))");
}

TEST_F(SolverRules, Llb6_09_NotJoinedWithWhatItDependsOn) {
  EXPECT_EQ(BuildAlone("s:\nx: s key=k content=0 value=v\ny: x key=k content=0 value=v\n"), "v");
}

TEST_F(SolverRules, Llb6_10_FollowerSurvivesTheLeadersJob) {
  const JobId first = driver_.NewJob();
  driver_.Build(first, "a: key=k\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  const JobId second = driver_.NewJob();
  const RequestId followed = driver_.Build(second, "b: key=k\n");
  driver_.DoAll("a");
  driver_.EndJob(first);
  ASSERT_TRUE(driver_.IsPending(Kind::kRun, "a"));
  EXPECT_FALSE(driver_.pending()[static_cast<size_t>(driver_.Find(Kind::kRun, "a"))].cancelled);
  world_.SetOnRun("a", [](OpContext& context, ExecResult made) -> absl::StatusOr<ExecResult> {
    context.progress().Log({1, "after the cancel", absl::Now()});
    EXPECT_THAT(context.SessionIds(), ElementsAre("session2"));
    return made;
  });
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(followed), "k()");
  EXPECT_EQ(world_.total_runs(), 1);
  EXPECT_THAT(LogsOf(second), ElementsAre("after the cancel"));
}

TEST_F(SolverRules, Llb6_11_InputsOfTheLeaderStayAlive) {
  const JobId first = driver_.NewJob();
  driver_.Build(first, "a: key=k\nb: a key=l\n");
  while (!driver_.IsPending(Kind::kRun, "b")) driver_.Do(0);
  const RequestId followed = driver_.Build(driver_.NewJob(), "a: key=k\nc: a key=l\n");
  driver_.DoAll("b");
  driver_.EndJob(first);
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(followed), "l(k())");
  EXPECT_EQ(world_.total_runs(), 2);
}

TEST_F(SolverRules, Llb6_12_ThousandVerticesThenOneLoad) {
  std::string graph;
  for (int i = 0; i < 1000; ++i) {
    absl::StrAppend(&graph, "v", i, ":");
    if (i > 0) absl::StrAppend(&graph, " v", i - 1);
    if (i > 7) absl::StrAppend(&graph, " v", i * 7 % (i - 1));
    absl::StrAppend(&graph, " value=", i, "\n");
  }
  EXPECT_EQ(BuildAlone(graph), "999");
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(world_.calls(absl::StrCat("v", i)).maps, 1);
  world_.ResetCounts();
  EXPECT_EQ(BuildAlone(graph), "999");
  EXPECT_EQ(world_.total_runs(), 0);
  EXPECT_EQ(world_.loads(), 1);
}

TEST_F(SolverRules, Llb6_13_NestedSolveSharesAndIsReleased) {
  const std::string inner = DefinitionOf("a:\nb: a\n");
  world_.SetOnRun("n", [&](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
    return ExecResult{{}, inner};
  });
  EXPECT_EQ(BuildAlone("a:\nn: a noslot\ntop: n\n"), "top(b(a()))");
  EXPECT_EQ(world_.calls("a").runs, 1);
  EXPECT_TRUE(driver_.engine().Idle());
}

TEST_F(SolverRules, NestedDefinitionThatNeedsItselfIsRefused) {
  world_.SetOnRun("n", [&](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
    return ExecResult{{}, DefinitionOf("a:\nn: a noslot\nb: n\n")};
  });
  EXPECT_EQ(BuildAlone("a:\nn: a noslot\n"), "error: nested definition depends on itself");
}

TEST_F(SolverRules, Llb6_14_TwoOutputsOneRun) {
  EXPECT_EQ(BuildAlone("a: out=2\nb: a.0\nc: a.1\nd: b c\n"), "d(b(a()),c(a().1))");
  EXPECT_EQ(world_.calls("a").runs, 1);
  world_.ResetCounts();
  EXPECT_EQ(BuildAlone("a: out=2\ne: a.1\n"), "e(a().1)");
  EXPECT_EQ(BuildAlone("a: out=2\nf: a.0\n"), "f(a())");
  EXPECT_EQ(world_.calls("a").runs, 0);
}

TEST_F(SolverRules, Llb6_15_OutputIndexTooHigh) {
  const RequestId good = driver_.Build(driver_.NewJob(), "a: out=2\nb: a.1\n");
  const RequestId bad = driver_.Build(driver_.NewJob(), "a: out=2\nb: a.5\n");
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(good), "b(a().1)");
  EXPECT_EQ(driver_.Outcome(bad),
            "error: invalid response from exec need 5 index but 2 results received");
}

TEST_F(SolverRules, Llb6_16_17_IndependentInputsRunAtOnce) {
  driver_.Build(driver_.NewJob(), "a:\nb:\nc:\nd:\ntop: a b c d\n");
  for (bool more = true; more;) {
    more = false;
    for (size_t i = 0; i < driver_.pending().size() && !more; ++i) {
      more = driver_.pending()[i].kind != Kind::kRun;
      if (more) driver_.Do(i);
    }
  }
  EXPECT_EQ(driver_.pending().size(), 4u);
}

class SolverSlots : public SolverRules {
 protected:
  SolverSlots() : SolverRules(1) {}
};

TEST_F(SolverSlots, Llb6_18_OneSlotNeverOverlapsAndNestingGoesOn) {
  const std::string inner = DefinitionOf("x:\ny: x\n");
  world_.SetOnRun("n", [&](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
    return ExecResult{{}, inner};
  });
  const RequestId request = driver_.Build(driver_.NewJob(), "a:\nb:\nn: a noslot\ntop: n b\n");
  while (!driver_.pending().empty()) {
    EXPECT_LE(std::count_if(driver_.pending().begin(), driver_.pending().end(),
                            [](const auto& p) { return p.kind == Kind::kRun && p.name != "n"; }),
              1);
    driver_.Do(driver_.pending().size() - 1);
  }
  EXPECT_EQ(driver_.Outcome(request), "top(y(x()),b())");
}

TEST_F(SolverSlots, Llb6_19_WaitingForASlotEndsWithItsJob) {
  driver_.Build(driver_.NewJob(), "a:\n");
  const JobId waiting = driver_.NewJob();
  driver_.Build(waiting, "b:\n");
  const RequestId third = driver_.Build(driver_.NewJob(), "c:\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  driver_.DoAll("a");
  driver_.EndJob(waiting);
  driver_.DoAll();
  EXPECT_EQ(world_.calls("b").runs, 0);
  EXPECT_EQ(driver_.Outcome(third), "c()");
}

TEST_F(SolverSlots, SlotsAreSharedFairlyBetweenJobs) {
  driver_.Build(driver_.NewJob(), "a:\nb:\nc:\nd:\ntop: a b c d\n");
  driver_.Build(driver_.NewJob(), "e:\n");
  std::vector<std::string> order;
  while (!driver_.pending().empty()) {
    size_t i = 0;
    while (i < driver_.pending().size() && driver_.pending()[i].kind == Kind::kRun) ++i;
    if (i == driver_.pending().size()) order.push_back(driver_.pending()[i = 0].name);
    driver_.Do(i);
  }
  // The second job does not wait until the first has had all its turns.
  EXPECT_LE(std::find(order.begin(), order.end(), "e") - order.begin(), 2);
}

TEST_F(SolverSlots, LongestWayGoesFirst) {
  index_.RecordDuration(Digest::Of("long").ToString(), absl::Seconds(100));
  driver_.Build(driver_.NewJob(),
                "busy:\nshort1:\nshort2:\nbefore:\nlong: before\ntop: busy short1 short2 long\n");
  std::vector<std::string> order;
  while (!driver_.pending().empty()) {
    size_t i = 0;
    while (i < driver_.pending().size() && driver_.pending()[i].kind == Kind::kRun) ++i;
    if (i == driver_.pending().size()) order.push_back(driver_.pending()[i = 0].name);
    driver_.Do(i);
  }
  const auto at = [&](const char* name) {
    return std::find(order.begin(), order.end(), name) - order.begin();
  };
  // One takes the free slot before anything is known of the others; while the result of `before` is
  // being saved the slot goes to a short one.
  EXPECT_LE(at("before"), 1);
  EXPECT_LE(at("long"), 3);
  EXPECT_EQ(order.size(), 6u);
}

TEST_F(SolverRules, Llb6_81_LockedResourcesInAnyOrder) {
  const RequestId one = driver_.Build(driver_.NewJob(), "x: locks=a,b\n");
  const RequestId two = driver_.Build(driver_.NewJob(), "y: locks=b,a\n");
  const JobId gone = driver_.NewJob();
  driver_.Build(gone, "z: locks=b\n");
  while (!driver_.IsPending(Kind::kRun, "x")) driver_.Do(0);
  driver_.DoAll("x");
  EXPECT_FALSE(driver_.IsPending(Kind::kRun, "y"));
  driver_.EndJob(gone);
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(one), "x()");
  EXPECT_EQ(driver_.Outcome(two), "y()");
  EXPECT_EQ(world_.calls("z").runs, 0);
}

TEST_F(SolverRules, Llb6_20_CancelDuringCacheMap) {
  const JobId job = driver_.NewJob();
  const RequestId request = driver_.Build(job, "a:\n");
  driver_.CancelJob(job);
  EXPECT_EQ(driver_.Outcome(request), "error: cancelled by test");
  EXPECT_TRUE(driver_.pending()[0].cancelled);
  driver_.DoAll();
  EXPECT_EQ(BuildAlone("a:\n"), "a()");
}

TEST_F(SolverRules, Llb6_21_RunAgainOnlyAfterTheCancelledRunEnded) {
  const JobId first = driver_.NewJob();
  driver_.Build(first, "a:\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  driver_.EndJob(first);
  const RequestId again = driver_.Build(driver_.NewJob(), "a:\n");
  for (int i = driver_.Find(Kind::kMap, "a"); i >= 0; i = driver_.Find(Kind::kMap, "a"))
    driver_.Do(static_cast<size_t>(i));
  while (driver_.IsPending(Kind::kRecords, "a")) driver_.Do(Kind::kRecords, "a");
  ASSERT_EQ(driver_.pending().size(), 1u);  // the old run, and no new one beside it
  EXPECT_TRUE(driver_.pending()[0].cancelled);
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(again), "a()");
}

TEST_F(SolverRules, Llb6_22_OneOfTwoCancelled) {
  const JobId first = driver_.NewJob();
  const RequestId one = driver_.Build(first, "a:\n");
  const RequestId two = driver_.Build(driver_.NewJob(), "a:\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  driver_.CancelJob(first);
  EXPECT_EQ(driver_.Outcome(one), "error: cancelled by test");
  EXPECT_FALSE(driver_.pending()[0].cancelled);
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(two), "a()");
  EXPECT_EQ(world_.calls("a").runs, 1);
}

TEST_F(SolverRules, Llb6_23_BothCancelled) {
  const JobId first = driver_.NewJob(), second = driver_.NewJob();
  driver_.Build(first, "a:\n");
  driver_.Build(second, "a:\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  driver_.CancelJob(first);
  EXPECT_FALSE(driver_.pending()[0].cancelled);
  driver_.CancelJob(second);
  EXPECT_TRUE(driver_.pending()[0].cancelled);
}

// BuildKit issue 3628: the request of the second start stayed open for ever.
TEST_F(SolverRules, Issue3628_StartCancelStart) {
  for (int finished = 0; finished < 2; ++finished) {
    const std::string graph = absl::StrCat("a", finished, ":\n");
    const std::string name = absl::StrCat("a", finished);
    const JobId job = driver_.NewJob();
    const RequestId first = driver_.Build(job, graph);
    while (!driver_.IsPending(Kind::kRun, name)) driver_.Do(0);
    driver_.CancelRequest(job, first);
    const RequestId again = driver_.Build(job, graph);
    while (driver_.IsPending(Kind::kRecords, name)) driver_.Do(Kind::kRecords, name);
    // The old call may end with its cancellation or have been faster.
    driver_.Do(Kind::kRun, name, /*anyway=*/finished == 1);
    driver_.DoAll();
    EXPECT_EQ(driver_.Outcome(again), absl::StrCat(name, "()"));
    EXPECT_EQ(world_.calls(name).runs, 1);
  }
}

TEST_F(SolverRules, Llb6_24_StartCancelStartAThousandTimes) {
  JobId job = driver_.NewJob();
  for (int i = 0; i < 1000; ++i) {
    driver_.Build(job, "a:\nb: a\n");
    for (int n = 0; n < i % 9 && !driver_.pending().empty(); ++n) driver_.Do(0);
    driver_.EndJob(job);
    job = driver_.NewJob();
  }
  const RequestId last = driver_.Build(job, "a:\nb: a\n");
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(last), "b(a())");
}

TEST_F(SolverRules, Llb6_25_CacheMapErrorIsTriedAgainByTheNextJob) {
  world_.SetOnMap("a", [](OpContext&, int) { return absl::NotFoundError("no such tag"); });
  EXPECT_EQ(BuildAlone("a:\n"), "error: failed to load cache key: no such tag");
  EXPECT_EQ(BuildAlone("a:\n"), "error: failed to load cache key: no such tag");
  EXPECT_EQ(world_.calls("a").maps, 2);
}

TEST_F(SolverRules, Llb6_26_EveryWaiterGetsTheSameError) {
  world_.SetOnRun("a", [](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
    absl::Status status = absl::UnknownError("exit code: 3");
    status.SetPayload("test/detail", absl::Cord("x"));
    return status;
  });
  const JobId first = driver_.NewJob();
  const RequestId one = driver_.Build(first, "a:\n");
  const RequestId two = driver_.Build(driver_.NewJob(), "a:\nb: a\n");
  driver_.DoAll();
  EXPECT_EQ(driver_.ResultOf(one).status(), driver_.ResultOf(two).status());
  EXPECT_EQ(driver_.Outcome(one), "error: exit code: 3");
  EXPECT_TRUE(driver_.ResultOf(one).status().GetPayload("test/detail").has_value());
  EXPECT_EQ(world_.calls("a").runs, 1);
  // The same job is told at once; one that comes later may have more luck.
  const RequestId again = driver_.Build(first, "a:\n");
  EXPECT_EQ(driver_.Outcome(again), "error: exit code: 3");
  world_.SetOnRun("a", nullptr);
  EXPECT_EQ(BuildAlone("a:\n"), "a()");
}

TEST_F(SolverRules, Llb6_27_CancellationReturnedByTheOpItself) {
  world_.SetOnRun("a", [](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
    return absl::CancelledError("context canceled");
  });
  EXPECT_EQ(BuildAlone("a:\n"), "error: context canceled");
  EXPECT_EQ(world_.calls("a").runs, 1);
}

TEST_F(SolverRules, Llb6_28_OtherBranchesOfAFailedJobAreCancelled) {
  world_.SetOnRun("bad", [](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
    return absl::UnknownError("bad");
  });
  for (const bool other : {false, true}) {
    const RequestId failing = driver_.Build(driver_.NewJob(), "bad:\nslow:\ntop: bad slow\n");
    const RequestId needs = other ? driver_.Build(driver_.NewJob(), "slow:\n") : 0;
    while (!driver_.IsPending(Kind::kRun, "slow") || !driver_.IsPending(Kind::kRun, "bad")) {
      size_t i = 0;
      while (driver_.pending()[i].kind == Kind::kRun) ++i;
      driver_.Do(i);
    }
    driver_.Do(Kind::kRun, "bad");
    EXPECT_EQ(driver_.Outcome(failing), "error: bad");
    EXPECT_EQ(driver_.pending()[0].cancelled, !other);
    driver_.DoAll();
    if (other) {
      EXPECT_EQ(driver_.Outcome(needs), "slow()");
    }
  }
}

TEST_F(SolverRules, Llb6_30_ContentKeyFailureFailsEvenWithAHit) {
  BuildAlone("a:\nb: a content=0\n");
  world_.SetOnContent("b", [](OpContext&, int) { return absl::NotFoundError("/x: not found"); });
  EXPECT_EQ(BuildAlone("other:\nb: other content=0\n"),
            "error: failed to compute cache key: /x: not found");
}

TEST_F(SolverRules, Llb6_32_33_LostResultIsMadeAgain) {
  for (const bool silently : {true, false}) {
    BuildAlone("a:\nb: a\n");
    world_.DropResults(silently);
    world_.ResetCounts();
    EXPECT_EQ(BuildAlone("a:\nb: a\n"), "b(a())");
    EXPECT_EQ(world_.total_runs(), 2);
    world_.ResetCounts();
    EXPECT_EQ(BuildAlone("a:\nb: a\n"), "b(a())");  // saved again
    EXPECT_EQ(world_.total_runs(), 0);
  }
}

TEST_F(SolverRules, Llb6_34_35_SelectorsAndContent) {
  BuildAlone("a: value=v\nb: a key=k sel=0:/x content=0\n");
  world_.ResetCounts();
  EXPECT_EQ(BuildAlone("a: value=v\nc: a key=k sel=0:/y content=0\n"), "k(v)");
  EXPECT_EQ(world_.calls("c").runs, 1);  // another part is read
  EXPECT_EQ(BuildAlone("a2: value=v\nd: a2 key=k sel=0:/x content=0\n"), "k(v)");
  EXPECT_EQ(world_.calls("d").runs, 0);  // equal content of the same part
}

TEST_F(SolverRules, Llb6_36_ContentHitTeachesTheDefinitionKey) {
  BuildAlone("a: value=v\nb: a content=0\n");
  world_.ResetCounts();
  BuildAlone("a2: value=v\nb: a2 content=0\n");
  EXPECT_EQ(world_.calls("b").runs, 0);
  EXPECT_EQ(world_.calls("b").contents, 1);
  BuildAlone("a2: value=v\nb: a2 content=0\n");
  EXPECT_EQ(world_.calls("b").contents, 1);
}

TEST_F(SolverRules, Llb6_38_DefinitionMatchComputesNothing) {
  BuildAlone("a:\nb:\nc: a b content=0,1\n");
  world_.ResetCounts();
  BuildAlone("a:\nb:\nc: a b content=0,1\n");
  EXPECT_EQ(world_.calls("c").contents, 0);
  EXPECT_EQ(world_.loads(), 1);
}

TEST_F(SolverRules, Llb6_39_OnlyTheInputWithoutMatchIsCompleted) {
  BuildAlone("a:\nb: value=v\nc: a b content=0,1\n");
  world_.ResetCounts();
  EXPECT_EQ(BuildAlone("a:\nb2: value=v\nc: a b2 content=0,1\n"), "c(a(),v)");
  EXPECT_EQ(world_.calls("c").contents, 1);
  EXPECT_EQ(world_.calls("c").runs, 0);
  EXPECT_EQ(world_.calls("b2").runs, 1);
  EXPECT_EQ(world_.calls("a").runs, 0);
  EXPECT_EQ(world_.loads(), 1);  // of c alone
}

TEST_F(SolverRules, Llb6_40_InputsCompleteWithoutWaitingForContentKeys) {
  driver_.Build(driver_.NewJob(), "a:\nb:\nc: a b content=0,1\n");
  driver_.DoAll("b");
  while (!driver_.IsPending(Kind::kRun, "b")) driver_.Do(0);
  EXPECT_EQ(world_.calls("a").runs, 1);
}

TEST_F(SolverRules, Llb6_41_SecondKeyOfASource) {
  BuildAlone("a: keys=k1,k2\n");
  EXPECT_EQ(world_.calls("a").maps, 2);
  world_.ResetCounts();
  EXPECT_EQ(BuildAlone("a: keys=k1,k2\n"), "k2()");
  EXPECT_EQ(world_.calls("a").maps, 1);
  EXPECT_EQ(BuildAlone("b: keys=other,k2\n"), "k2()");
  EXPECT_EQ(world_.calls("b").maps, 2);
  EXPECT_EQ(world_.total_runs(), 0);
}

TEST_F(SolverRules, Llb6_42_SecondKeyOfAnInput) {
  BuildAlone("a: keys=k1,k2\nc: a\n");
  world_.ResetCounts();
  BuildAlone("a: keys=k1,k2\nc: a\n");
  EXPECT_EQ(world_.calls("a").maps, 1);
  EXPECT_EQ(BuildAlone("b: keys=other,k2\nc: b\n"), "c(k2())");
  EXPECT_EQ(world_.calls("b").maps, 2);
  EXPECT_EQ(world_.total_runs(), 0);
  EXPECT_EQ(world_.loads(), 2);
}

TEST_F(SolverRules, Llb6_61_IgnoreCacheRunsEachTime) {
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(BuildAlone("a:\nb: a ignore\n"), "b(a())");
    EXPECT_EQ(world_.calls("b").runs, i);
    EXPECT_EQ(world_.calls("a").runs, 1);
  }
}

TEST_F(SolverRules, Llb6_62_ConsumerOfIgnoreCache) {
  BuildAlone("a: value=v\nwith: a content=0\nwithout: a\ntop: with without\n");
  world_.ResetCounts();
  BuildAlone("a: value=v ignore\nwith: a content=0\nwithout: a\ntop: with without\n");
  EXPECT_EQ(world_.calls("with").runs, 0);
  EXPECT_EQ(world_.calls("without").runs, 1);
}

// Not only its consumers: what they were saved under found the results of the time before.
TEST_F(SolverRules, Llb6_62_AllThatStandsOnIgnoreCacheIsNew) {
  const char* const chain = "e:\nb: a\nc: b content=0\nd: c e\n";
  const std::string plain = absl::StrCat("a: value=v\n", chain, "top: d\n");
  BuildAlone(plain);
  world_.ResetCounts();
  BuildAlone(absl::StrCat("a: value=w ignore\n", chain, "top: d\n"));
  for (const char* name : {"a", "b", "c", "d", "top"})
    EXPECT_EQ(world_.calls(name).runs, 1) << name;
  EXPECT_EQ(world_.calls("e").runs, 0);
  world_.ResetCounts();
  BuildAlone(plain);
  EXPECT_EQ(world_.total_runs(), 0);
}

TEST_F(SolverRules, Llb6_63_NormalJobJoinsIgnoreCache) {
  const RequestId one = driver_.Build(driver_.NewJob(), "a: ignore\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  const RequestId two = driver_.Build(driver_.NewJob(), "a:\n");
  driver_.DoAll();
  EXPECT_EQ(world_.calls("a").runs, 1);
  EXPECT_EQ(driver_.Outcome(one), driver_.Outcome(two));
}

TEST_F(SolverRules, Llb6_64_IgnoreCacheDoesNotTouchItsTwin) {
  const JobId normal = driver_.NewJob();
  const RequestId first = driver_.Build(normal, "a:\n");
  driver_.DoAll();
  const std::string held = (*driver_.ResultOf(first))->Id();
  const JobId ignoring = driver_.NewJob();
  const RequestId second = driver_.Build(ignoring, "a: ignore\n");
  driver_.DoAll();
  EXPECT_EQ(world_.calls("a").runs, 2);
  EXPECT_NE((*driver_.ResultOf(second))->Id(), held);
  driver_.EndJob(ignoring);
  const RequestId third = driver_.Build(driver_.NewJob(), "a:\n");
  ASSERT_TRUE(driver_.IsOver(third));
  EXPECT_EQ((*driver_.ResultOf(third))->Id(), held);
}

TEST_F(SolverRules, WhatIsEachClientsOwnIsNotShared) {
  // One definition, two clients: each gets its own, also in what is built on it.
  const std::string graph = "a: mine\nb: a\n";
  const RequestId one = driver_.Build(driver_.NewJob(), graph);
  const RequestId two = driver_.Build(driver_.NewJob(), graph);
  driver_.DoAll();
  EXPECT_EQ(world_.calls("a").runs, 2);
  EXPECT_EQ(world_.calls("b").runs, 2);
  EXPECT_EQ(driver_.Outcome(one), "b(session1)");
  EXPECT_EQ(driver_.Outcome(two), "b(session2)");
}

TEST_F(SolverRules, Llb6_65_TwoIgnoreCacheJobsOneRun) {
  driver_.Build(driver_.NewJob(), "a: ignore\n");
  driver_.Build(driver_.NewJob(), "a: ignore\n");
  driver_.DoAll();
  EXPECT_EQ(world_.calls("a").runs, 1);
}

// BuildKit issue 4674: a consumer that subscribed after completion got no keys.
TEST_F(SolverRules, Llb6_66_Issue4674_ConsumerOfAHeldBase) {
  BuildAlone("base:\nc: base\n");
  driver_.Build(driver_.NewJob(), "base:\n");
  driver_.DoAll();
  world_.ResetCounts();
  EXPECT_EQ(BuildAlone("base:\nc: base\n"), "c(base())");
  EXPECT_EQ(world_.total_runs(), 0);
}

TEST_F(SolverRules, Llb6_66_ConsumerOfAHeldIgnoreCacheBaseRuns) {
  BuildAlone("base:\nc: base\n");
  driver_.Build(driver_.NewJob(), "base: ignore\n");
  driver_.DoAll();
  world_.ResetCounts();
  EXPECT_EQ(BuildAlone("base:\nc: base\n"), "c(base())");
  EXPECT_EQ(world_.calls("c").runs, 1);
}

TEST_F(SolverRules, Llb6_67_IgnoreCacheResultIsAHitLater) {
  BuildAlone("a:\nb: a ignore\n");
  EXPECT_EQ(BuildAlone("a:\nb: a\n"), "b(a())");
  EXPECT_EQ(world_.calls("b").runs, 1);
}

TEST_F(SolverRules, Llb6_69_LateJoinerGetsTheWholeLog) {
  const JobId first = driver_.NewJob(), second = driver_.NewJob(), third = driver_.NewJob();
  driver_.Build(first, "a: key=k\n");
  world_.SetOnRun("a", [&](OpContext& context, ExecResult made) -> absl::StatusOr<ExecResult> {
    context.progress().Log({1, "one", absl::Now()});
    driver_.Build(second, "a: key=k\n");  // joins the vertex
    context.progress().Log({1, "two", absl::Now()});
    return made;
  });
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  driver_.Build(third, "b: key=k\n");  // follows the execution
  driver_.DoAll("a");
  driver_.DoAll();
  for (JobId job : {first, second, third}) EXPECT_THAT(LogsOf(job), ElementsAre("one", "two"));
}

TEST_F(SolverRules, Llb6_71_CachedIffNothingRan) {
  BuildAlone("a:\nb: a\nc: b\n");
  const JobId job = driver_.NewJob();
  driver_.Build(job, "a:\nb: a\nd: b\n");
  driver_.DoAll();
  driver_.EndJob(job);
  const auto shown = ShownTo(job);
  EXPECT_EQ(shown.at("a"), "cached");
  EXPECT_EQ(shown.at("b"), "cached");
  EXPECT_EQ(shown.at("d"), "done");
}

TEST_F(SolverRules, Llb6_71_EveryStartedVertexIsCompleted) {
  const JobId job = driver_.NewJob();
  driver_.Build(job, "a:\nb: a\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  driver_.EndJob(job);
  EXPECT_EQ(ShownTo(job).at("a"), "error");
  EXPECT_EQ(ShownTo(job).at("b"), "announced");
  for (const ProgressEventPtr& event : EventsOf(job)) {
    const auto* update = std::get_if<VertexUpdate>(event.get());
    if (update != nullptr && update->completed != absl::InfinitePast()) {
      EXPECT_LE(update->started, update->completed);
    }
  }
}

// Whatever the order in which the calls are answered: what completes was open, or is cached.
TEST_F(SolverRules, Llb6_71_OnlyOpenIntervalsEnd) {
  BuildAlone("a: keys=k,l\n");
  int overtaken = 0;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::minstd_rand random(seed + 1);
    const JobId job = driver_.NewJob();
    // Wants all keys of `a`; then somebody comes who wants its result, which is found by the first.
    driver_.Build(job, absl::StrCat("a: keys=k,l\nb: a key=b", seed, "\n"));
    for (uint32_t i = random() % 6; i > 0; --i) driver_.Do(0);
    driver_.Build(job, "a: keys=k,l\n");
    while (!driver_.pending().empty()) {
      driver_.Do(random() % driver_.pending().size());
      if (ShownTo(job).at("a") == "cached" && driver_.IsPending(Kind::kMap, "a")) ++overtaken;
    }
    driver_.EndJob(job);
    driver_.DoAll();
    std::map<Digest, bool> open;
    for (const ProgressEventPtr& event : EventsOf(job)) {
      const auto* update = std::get_if<VertexUpdate>(event.get());
      if (update == nullptr || update->started == absl::InfinitePast()) continue;
      const bool ends = update->completed != absl::InfinitePast();
      if (ends && !update->cached) {
        EXPECT_TRUE(open[update->digest]) << update->name << ", seed " << seed;
      }
      open[update->digest] = !ends;
    }
    for (const auto& [digest, still_open] : open) EXPECT_FALSE(still_open) << digest.ToString();
  }
  EXPECT_GT(overtaken, 0) << "no schedule found the vertex cached while its keys were computed";
}

TEST_F(SolverRules, Llb6_73_LostClientIsReplaced) {
  const JobId first = driver_.NewJob();
  driver_.Build(first, "a:\n");
  const RequestId two = driver_.Build(driver_.NewJob(), "a:\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  driver_.EndJob(first);
  int calls = 0;
  world_.SetOnRun("a", [&](OpContext& context, ExecResult made) -> absl::StatusOr<ExecResult> {
    EXPECT_THAT(context.SessionIds(), ElementsAre("session2"));
    if (++calls == 1) return absl::UnavailableError("session closed");
    return made;
  });
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(two), "a()");
  EXPECT_EQ(calls, 2);
}

TEST_F(SolverRules, LostClientWithoutAnotherFails) {
  world_.SetOnRun("a", [&](OpContext&, ExecResult) -> absl::StatusOr<ExecResult> {
    return absl::UnavailableError("session closed");
  });
  EXPECT_EQ(BuildAlone("a:\n"), "error: session closed");
  EXPECT_EQ(world_.calls("a").runs, 1);
}

// BuildKit issues 2303 and 4285: an edge merged into one that was itself merged away.
TEST_F(SolverRules, Issue2303_ThreeEqualOnes) {
  std::vector<RequestId> requests;
  std::vector<JobId> jobs;
  for (const char* name : {"a", "b", "c"}) {
    jobs.push_back(driver_.NewJob());
    requests.push_back(driver_.Build(jobs.back(), absl::StrCat(name, ": key=k\n")));
  }
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  driver_.DoAll("a");
  driver_.EndJob(jobs[0]);
  driver_.EndJob(jobs[1]);
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(requests[2]), "k()");
  EXPECT_EQ(world_.total_runs(), 1);
}

// BuildKit issue 4347: progress was lost after a merge.
TEST_F(SolverRules, Issue4347_FollowerIsShownStartedAndDone) {
  driver_.Build(driver_.NewJob(), "a: key=k\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  const JobId second = driver_.NewJob();
  driver_.Build(second, "b: key=k\n");
  driver_.DoAll("a");
  EXPECT_EQ(ShownTo(second).at("b"), "started");
  driver_.DoAll();
  EXPECT_EQ(ShownTo(second).at("b"), "done");
}

// BuildKit issue 4559: three vertices merged into an ownership cycle.
TEST_F(SolverRules, Issue4559_ThreeVerticesJoinedPairwise) {
  const char* const graphs[] = {"s1: key=s\na1: s1 key=a\nb1: a1 key=b\nc1: b1 key=c\n",
                                "s2: key=s\na2: s2 key=a\nb2: a2 key=b\nc2: b2 key=c\n",
                                "s3: key=s\na3: s3 key=a\nb3: a3 key=b\nc3: b3 key=c\n"};
  std::vector<RequestId> requests;
  for (const char* graph : graphs) requests.push_back(driver_.Build(driver_.NewJob(), graph));
  while (!driver_.pending().empty()) driver_.Do(driver_.pending().size() * 2 / 3);
  for (RequestId request : requests) EXPECT_EQ(driver_.Outcome(request), "c(b(a(s())))");
  EXPECT_EQ(world_.total_runs(), 4);
}

// BuildKit issue 4733: a job that joined while another was being dropped.
TEST_F(SolverRules, Issue4733_JoinWhileTheLastHolderLeaves) {
  const JobId first = driver_.NewJob();
  driver_.Build(first, "a:\nb: a\n");
  while (!driver_.IsPending(Kind::kRun, "a")) driver_.Do(0);
  driver_.EndJob(first);
  const RequestId request = driver_.Build(driver_.NewJob(), "a:\nb: a\n");
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(request), "b(a())");
}

// BuildKit issue 4887: the target of a merge had just been released, and sessions of the jobs of
// its ancestors were missing.
TEST_F(SolverRules, Issue4887_FollowerOfAReleasedVertexBringsItsSession) {
  const JobId first = driver_.NewJob();
  driver_.Build(first, "a: key=k\nb: a key=l\n");
  while (!driver_.IsPending(Kind::kRun, "b")) driver_.Do(0);
  const RequestId request = driver_.Build(driver_.NewJob(), "c: key=k\nd: c key=l\ne: d\n");
  driver_.DoAll("b");
  driver_.EndJob(first);
  world_.SetOnRun("b", [](OpContext& context, ExecResult made) -> absl::StatusOr<ExecResult> {
    EXPECT_THAT(context.SessionIds(), ElementsAre("session2"));
    return made;
  });
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(request), "e(l(k()))");
}

// BuildKit issue 4278: a request was left open when an input's keys came in late.
TEST_F(SolverRules, Issue4278_LateKeysOfOneInput) {
  BuildAlone("a:\nb:\nc: a b\n");
  const RequestId request = driver_.Build(driver_.NewJob(), "a:\nb:\nc: a b\n");
  driver_.DoAll("b");
  driver_.DoAll();
  EXPECT_EQ(driver_.Outcome(request), "c(a(),b())");
}

// A client's directory, whose key is another one in each session, is known by its content. Under
// its own key nothing is left in the index that a later build would only find to be of no use.
TEST_F(SolverRules, RandomKeysLeaveNothingWhereTheContentIsKnown) {
  const auto graph = [](absl::string_view session) {
    return absl::StrCat("dir", session, ": key=random:", session, " value=files\ncopy: dir",
                        session, " content=0 key=copy\nrun: copy\n");
  };
  const std::string outcome = BuildAlone(graph("1"));
  EXPECT_EQ(index_.link_count(), 2u);
  EXPECT_EQ(index_.node_count(), 3u) << "the content and the two steps";
  world_.ResetCounts();
  for (const char* session : {"2", "3", "4"}) EXPECT_EQ(BuildAlone(graph(session)), outcome);
  EXPECT_EQ(world_.total_runs(), 3);  // the directories
  EXPECT_EQ(index_.link_count(), 2u);
  EXPECT_EQ(index_.node_count(), 3u);
  // The same session once more: nothing runs.
  world_.ResetCounts();
  EXPECT_EQ(BuildAlone(graph("4")), outcome);
  EXPECT_EQ(world_.total_runs(), 0);
}

// Without a content key the session's own key is all there is.
TEST_F(SolverRules, RandomKeysServeTheirSession) {
  const std::string graph = "dir: key=random:1\nrun: dir\n";
  BuildAlone(graph);
  world_.ResetCounts();
  BuildAlone(graph);
  EXPECT_EQ(world_.total_runs(), 0);
  BuildAlone("other: key=random:2\nrun: other\n");
  EXPECT_EQ(world_.total_runs(), 2);
}

// Counts what look-ups give.
class CountingIndex : public store::MemoryCacheIndex {
 public:
  absl::StatusOr<std::vector<store::KeyId>> Query(absl::Span<const store::InputKey> keys, int input,
                                                  const store::OpOutput& op) override {
    auto targets = MemoryCacheIndex::Query(keys, input, op);
    if (targets.ok()) given += targets->size();
    return targets;
  }
  absl::StatusOr<std::vector<store::KeyId>> Match(
      absl::Span<const std::vector<store::InputKey>> inputs, const store::OpOutput& op) override {
    auto targets = MemoryCacheIndex::Match(inputs, op);
    if (targets.ok()) given += targets->size();
    ++matches;
    return targets;
  }
  size_t given = 0, matches = 0;
};

// Files of a hundred sources copied onto one base by ops of one digest: what an op is given of the
// others must not grow with their number.
class SolverCommonKey : public testing::Test {
 protected:
  static constexpr int kCopies = 2 * static_cast<int>(store::CacheIndex::kMaxCarryOver);

  std::string Copies(absl::string_view options, absl::string_view changed = "") const {
    std::string graph = "base:\n", all = "all:";
    for (int i = 0; i < kCopies; ++i) {
      absl::StrAppend(&graph, "src", i, changed, ": value=v", i, "\ncopy", i, ": base src", i,
                      changed, " key=copy ", options, "\n");
      absl::StrAppend(&all, " copy", i);
    }
    return graph + all + "\n";
  }
  std::string Build(const std::string& graph) {
    StepDriver driver(&world_, &index_);
    const JobId job = driver.NewJob();
    const RequestId request = driver.Build(job, graph);
    driver.DoAll();
    const std::string outcome = driver.Outcome(request);
    driver.EndJob(job);
    return outcome;
  }

  TestWorld world_;
  CountingIndex index_;
};

TEST_F(SolverCommonKey, CostsNothing) {
  const std::string graph = Copies("");
  const std::string outcome = Build(graph);
  // One more op upon what is there already: its own result is found among those of all others.
  world_.ResetCounts();
  index_.given = index_.matches = 0;
  EXPECT_EQ(Build(absl::StrCat(graph, "top: all\n")).substr(4), absl::StrCat(outcome, ")"));
  EXPECT_EQ(world_.total_runs(), 1);
  EXPECT_EQ(index_.matches, kCopies);
  EXPECT_LE(index_.given, (store::CacheIndex::kMaxCarryOver + 8) * kCopies);
}

// The sources are others but what they contain is the same, which is known only at the end.
TEST_F(SolverCommonKey, FoundByContent) {
  Build(Copies("content=1"));
  world_.ResetCounts();
  index_.given = index_.matches = 0;
  Build(Copies("content=1", "new"));
  EXPECT_EQ(world_.total_runs(), kCopies);  // the sources
  EXPECT_EQ(index_.matches, kCopies);
}

// Nothing of them fits: the index is not even asked.
TEST_F(SolverCommonKey, NoMatch) {
  Build(Copies(""));
  world_.ResetCounts();
  index_.matches = 0;
  Build(Copies("", "new"));
  EXPECT_EQ(world_.total_runs(), 2 * kCopies + 1);
  EXPECT_EQ(index_.matches, 0u);
}

}  // namespace
}  // namespace kiln::solver
