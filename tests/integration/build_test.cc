// A real kilnd, real containers, our own client library: what a user of the daemon sees.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/llb/file_action.h"
#include "tests/integration/build_fixture.h"

namespace kiln::integration {
namespace {

namespace fs = std::filesystem;
namespace llb = client::llb;

TEST_F(BuildTest, StepsRunAndTheirFilesComeBack) {
  const llb::State built =
      base_.state()
          .Run(Step("hello", "mkdir /work; echo hello > /work/greeting; echo to-the-log"))
          .Root();
  const llb::State result = llb::State().File(llb::Copy(built, "/work/greeting", "/greeting"));
  TempDir out;
  SeenProgress seen;
  ASSERT_TRUE(Run(result, &seen, out.path()).ok());
  EXPECT_EQ(Slurp(out.path() + "/greeting"), "hello\n");
  EXPECT_EQ(seen.step("hello").log, "to-the-log\n");
  EXPECT_TRUE(seen.step("hello").completed);
  EXPECT_FALSE(seen.step("hello").cached);
}

TEST_F(BuildTest, SecondBuildIsAllCachedAlsoAfterARestart) {
  const llb::State built = base_.state()
                               .Run(CountedStep("one", "cached", "echo 1 > /one"))
                               .Run(CountedStep("two", "cached", "echo 2 > /two"));
  for (int i = 0; i < 4; ++i) {
    if (i == 2) {
      ASSERT_TRUE(daemon_->Stop().ok());
      ASSERT_TRUE(daemon_->Restart().ok());
    }
    SeenProgress seen;
    TempDir out;
    const absl::Status status = Run(built, &seen, out.path());
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(seen.step("one").cached, i > 0) << i;
    EXPECT_EQ(seen.step("two").cached, i > 0) << i;
    EXPECT_EQ(Slurp(out.path() + "/two"), "2\n");
  }
  EXPECT_EQ(Runs("cached", "a"), 2);
}

TEST_F(BuildTest, IndependentStagesRunAtOnce) {
  // Each waits for the other's mark in a shared cache mount: one after the other would hang.
  auto stage = [&](const std::string& mine, const std::string& other) {
    llb::RunInfo run =
        Step(mine, absl::StrCat("touch /meet/", mine, "; i=0; until test -e /meet/", other,
                                "; do i=$((i+1)); test $i -lt 600 || exit 1; sleep 0.1; done"));
    run.mounts.push_back({.target = "/meet", .cache_id = "meet"});
    return base_.state().Run(run).Root();
  };
  const llb::State left = stage("left", "right"), right = stage("right", "left");
  SeenProgress seen;
  const absl::Status status = Run(llb::Merge({left, right}), &seen);
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(BuildTest, ClientsAtOnceShareEveryStep) {
  const llb::State built = base_.state()
                               .Run(GatedStep("slow", "shared"))
                               .Run(CountedStep("next", "shared", "echo 2 > /two"));
  std::vector<SeenProgress> seen(5);
  std::vector<absl::Status> status(seen.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < seen.size(); ++i)
    clients.emplace_back([&, i] { status[i] = Run(built, &seen[i]); });
  for (const SeenProgress& each : seen) EXPECT_TRUE(each.WaitForLog("slow", "started"));
  OpenGate("shared");
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_TRUE(status[i].ok()) << status[i];
    EXPECT_EQ(seen[i].step("slow").log, "started\nfinished\n") << i;
  }
  EXPECT_EQ(Runs("shared", "a"), 2) << "two steps, each once, for five clients";
}

TEST_F(BuildTest, OnlyWhatDependsOnAChangedFileRunsAgain) {
  TempDir sources;
  sources.Write("a/input", "a1");
  sources.Write("b/input", "b1");
  auto graph = [&] {
    auto stage = [&](const std::string& name) {
      const llb::State source =
          llb::State().File(llb::Copy(llb::Local("src", {.shared_key_hint = "src"}), "/" + name,
                                      "/in", {.dir_contents_only = true}));
      llb::ExecState exec = base_.state().Run(
          CountedStep("build " + name, name, "mkdir -p /out; cat /src/in/input > /out/result"));
      exec.AddMount({.target = "/src", .source = source, .readonly = true, .no_output = true});
      return exec.Root();
    };
    return llb::State()
        .File(llb::Copy(stage("a"), "/out/result", "/a"))
        .File(llb::Copy(stage("b"), "/out/result", "/b"));
  };
  for (int i = 0; i < 2; ++i) {
    sources.Write("b/input", absl::StrCat("b-", i, std::string(static_cast<size_t>(i), 'x')));
    TempDir out;
    SeenProgress seen;
    const absl::Status status =
        Build(daemon_->address(), base_, graph(), &seen, out.path(), {}, {{"src", sources.path()}});
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(Slurp(out.path() + "/a"), "a1");
    EXPECT_EQ(Slurp(out.path() + "/b"),
              absl::StrCat("b-", i, std::string(static_cast<size_t>(i), 'x')));
  }
  EXPECT_EQ(Runs("a", "x"), 1);
  EXPECT_EQ(Runs("b", "x"), 2);
}

TEST_F(BuildTest, FailureNamesTheCommandAndItsCode) {
  SeenProgress seen;
  const absl::Status status =
      Run(base_.state().Run(Step("failing", "echo before; exit 7")).Root(), &seen);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("did not complete successfully: exit code: 7"));
  EXPECT_EQ(seen.step("failing").log, "before\n");
  EXPECT_FALSE(seen.step("failing").error.empty());
}

TEST_F(BuildTest, NothingIsLeftAfterSuccessFailureAndCancel) {
  SeenProgress warm_up;
  ASSERT_TRUE(Run(base_.state().Run(Step("warm up", "true")).Root(), &warm_up).ok());
  const Holdings idle = daemon_->Count();
  for (int i = 0; i < 3; ++i) {
    SeenProgress good, bad, stopped;
    // With a secret, which lies in a folder of the step's own.
    auto step = [](const std::string& name, const std::string& script) {
      llb::RunInfo run = Step(name, "test -s /run/secrets/path || exit 99; " + script);
      run.secrets.push_back({.id = "path", .target = "/run/secrets/path"});
      return run;
    };
    EXPECT_TRUE(Run(base_.state().Run(step("good", absl::StrCat("echo ", i))).Root(), &good).ok());
    EXPECT_FALSE(
        Run(base_.state().Run(step("bad", absl::StrCat("sleep 60 & exit ", i + 1))).Root(), &bad)
            .ok());
    CancelSource cancel;
    std::thread stopper([&] {
      EXPECT_TRUE(stopped.WaitForLog("endless", "started"));
      cancel.Cancel();
    });
    const absl::Status status =
        Run(base_.state()
                .Run(step("endless", absl::StrCat("echo started ", i, "; sleep 600 & sleep 600")))
                .Root(),
            &stopped, "", cancel.token());
    stopper.join();
    EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    EXPECT_TRUE(daemon_->SettlesTo(idle))
        << "before: " << idle.ToString() << "\nafter: " << daemon_->Count().ToString();
  }
}

TEST_F(BuildTest, CancellingOneOfTwoLeavesTheOtherAlone) {
  const llb::State built = base_.state().Run(GatedStep("shared", "survivor")).Root();
  SeenProgress first, second;
  CancelSource cancel;
  absl::Status first_status, second_status;
  std::thread one([&] { first_status = Run(built, &first, "", cancel.token()); });
  ASSERT_TRUE(first.WaitForLog("shared", "started"));
  std::thread two([&] { second_status = Run(built, &second); });
  ASSERT_TRUE(second.WaitForLog("shared", "started"));
  cancel.Cancel();
  one.join();
  OpenGate("survivor");
  two.join();
  EXPECT_EQ(first_status.code(), absl::StatusCode::kCancelled) << first_status;
  EXPECT_TRUE(second_status.ok()) << second_status;
  EXPECT_EQ(second.step("shared").log, "started\nfinished\n");
  EXPECT_EQ(Runs("survivor", "a"), 1);
}

TEST_F(BuildTest, DrainsOnSigterm) {
  SeenProgress running;
  absl::Status status;
  std::thread client([&] {
    status = Run(base_.state().Run(Step("running", "echo started; sleep 2")).Root(), &running);
  });
  ASSERT_TRUE(running.WaitForLog("running", "started"));
  const auto exit = daemon_->Stop();
  client.join();
  EXPECT_TRUE(status.ok()) << status;
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_TRUE(exit->ok()) << exit->ToString();
}

TEST_F(BuildTest, LeavesNoMountUnderItsRootWhenItStops) {
  SeenProgress seen;
  ASSERT_TRUE(Run(base_.state().Run(Step("one", "true")).Root(), &seen).ok());
  ASSERT_TRUE(daemon_->Stop().ok());
  EXPECT_FALSE(absl::StrContains(Slurp("/proc/self/mountinfo"), daemon_->root()));
}

// A small file system of its own; unmounted at the end.
class SmallDisk {
 public:
  explicit SmallDisk(absl::string_view size) {
    const std::string options = absl::StrCat("size=", size);
    mounted_ = ::mount("kiln-test", dir_.path().c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(dir_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return dir_.path(); }

 private:
  TempDir dir_;
  bool mounted_ = false;
};

TEST_F(BuildTest, FullDiskFailsTheBuildThatFillsItAndNoOther) {
  SmallDisk disk("96m");
  ASSERT_TRUE(disk.mounted());
  ASSERT_TRUE(daemon_->Stop().ok());
  auto small = KilndProcess::Start({.root = disk.path() + "/root", .extra_args = {}});
  ASSERT_TRUE(small.ok()) << small.status();
  const std::string address = (*small)->address();
  auto fine = [&](const std::string& name) {
    SeenProgress seen;
    const absl::Status status =
        Build(address, base_, base_.state().Run(Step(name, "echo fine > /fine")), &seen);
    EXPECT_TRUE(status.ok()) << name << ": " << status << (*small)->Log();
  };
  fine("before");
  const Holdings idle = (*small)->Count();

  TempDir big;
  big.Write("zeros", std::string(200 << 20, '\0'));
  SeenProgress sending;
  const absl::Status sent =
      Build(address, base_, llb::Local("big"), &sending, "", {}, {{"big", big.path()}});
  EXPECT_THAT(std::string(sent.message()), testing::ContainsRegex("[Nn]o space left on device"));
  fine("after a transfer");

  SeenProgress writing;
  const absl::Status step = Build(
      address, base_,
      base_.state().Run(Step("fill", "dd if=/dev/zero of=/big bs=1048576 count=500")), &writing);
  EXPECT_THAT(std::string(step.message()), testing::HasSubstr("did not complete successfully"));
  EXPECT_THAT(writing.step("fill").log, testing::HasSubstr("No space left on device"));
  fine("after a step");
  EXPECT_TRUE((*small)->SettlesTo(idle))
      << "before: " << idle.ToString() << "\nafter: " << (*small)->Count().ToString();
  EXPECT_TRUE((*small)->Stop().ok());
}

TEST_F(BuildTest, EveryAnswerIsRightAfterKills) {
  // Killed at random moments of a running load; afterwards every build must succeed and what was
  // reported as done must be cached. KILN_KILLS=1000 for the long run.
  const char* wanted = std::getenv("KILN_KILLS");
  const int kills = wanted != nullptr ? std::atoi(wanted) : 20;
  const char* seed_text = std::getenv("KILN_SEED");
  unsigned seed = seed_text != nullptr ? static_cast<unsigned>(std::atoi(seed_text)) : 20261123u;
  SCOPED_TRACE(absl::StrCat("KILN_SEED=", seed));
  auto chain = [&](int n) {
    llb::State state = base_.state();
    for (int i = 0; i < 4; ++i)
      state = state.Run(
          Step(absl::StrCat("step ", n, ".", i), absl::StrCat("echo ", n, ".", i, " > /file", i)));
    return state;
  };
  for (int round = 0; round < kills; ++round) {
    std::thread client([&] {
      for (int n = 0; n < 3; ++n) {
        SeenProgress seen;
        if (!Run(chain(round * 3 + n), &seen).ok()) return;  // the kill
      }
    });
    absl::SleepFor(absl::Milliseconds(::rand_r(&seed) % 700));
    daemon_->Kill();
    client.join();
    ASSERT_TRUE(daemon_->Restart().ok()) << "round " << round;
    SeenProgress again;
    TempDir out;
    const absl::Status status = Run(chain(round * 3), &again, out.path());
    ASSERT_TRUE(status.ok()) << "round " << round << ": " << status;
    for (int i = 0; i < 4; ++i)
      ASSERT_EQ(Slurp(absl::StrCat(out.path(), "/file", i)), absl::StrCat(round * 3, ".", i, "\n"));
    SeenProgress cached;
    ASSERT_TRUE(Run(chain(round * 3), &cached).ok());
    ASSERT_TRUE(cached.step(absl::StrCat("step ", round * 3, ".3")).cached) << "round " << round;
  }
}

}  // namespace
}  // namespace kiln::integration
