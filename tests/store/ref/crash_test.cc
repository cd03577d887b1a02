#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/store/ref/invariants.h"
#include "tests/store/ref/random_load.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::store {
namespace {

using testing::IsEmpty;

int Runs() {
  int count = 20;
  if (const char* text = std::getenv("KILN_CRASH_RUNS"); text != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(text, &count)) << text;
  }
  return count;
}

// Works on `root` for `life`, then is killed. Returns what it said must survive.
std::string RunAndKill(const std::string& root, unsigned seed, absl::Duration life) {
  int pipe_fds[2];
  EXPECT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
  Fd out(pipe_fds[0]), in(pipe_fds[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.get(), STDOUT_FILENO);
  std::string seed_text = absl::StrCat(seed), root_text = root, name = KILN_REF_LOAD;
  char* argv[] = {name.data(), root_text.data(), seed_text.data(), nullptr};
  pid_t child = -1;
  EXPECT_EQ(::posix_spawn(&child, KILN_REF_LOAD, &actions, nullptr, argv, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  in.Reset();
  std::thread killer([&] {
    absl::SleepFor(life);
    ::kill(child, SIGKILL);
  });
  std::string said = Must(ReadAll(out.get()));
  killer.join();
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the load ended by itself: " << WEXITSTATUS(status);
  return said;
}

using RefStoreCrash = RefStoreTest;

TEST_F(RefStoreCrash, Llb6_106_KillAtRandomPointsLeavesAConsistentStore) {
  Close();
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 dice(seed);
  std::map<std::string, std::string> must_be_there;
  for (int run = 0; run < Runs() && !HasFailure(); ++run) {
    const absl::Duration life = absl::Milliseconds(30 + dice() % 300);
    for (const absl::string_view line :
         absl::StrSplit(RunAndKill(dir_ + "/root", dice(), life), '\n', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> parts =
          absl::StrSplit(line, absl::MaxSplits(' ', 1));
      must_be_there.insert(parts);
    }
    Open();
    store_->Drain();
    EXPECT_THAT(Violations(*root_, *database_, *store_), IsEmpty()) << "run " << run;
    for (const auto& [id, content] : must_be_there) {
      absl::StatusOr<RefPtr> ref = store_->Get(id);
      ASSERT_TRUE(ref.ok()) << "run " << run << ": " << ref.status();
      EXPECT_EQ(ShowTree(*ref), content) << id;
    }
    for (const UsageInfo& info : Must(store_->DiskUsage({}))) {
      if (!info.is_mutable) {
        EXPECT_TRUE(store_->Get(info.id).ok()) << info.id;
      }
    }
    Close();
  }
  EXPECT_FALSE(must_be_there.empty()) << "no run lived long enough to keep anything";
}

}  // namespace
}  // namespace kiln::store
