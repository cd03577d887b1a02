#include "daemon/executor/oci_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "tests/daemon/executor/scratch_rootfs.h"

namespace kiln::daemon {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

struct Outcome {
  absl::StatusOr<ExitInfo> exit = absl::UnknownError("not run");
  std::string out, err;
};

class OciExecutorTest : public testing::Test {
 protected:
  OciExecutorTest() {
    OciExecutorOptions options;
    options.state_dir = scratch_.folder() + "/state";
    auto executor = OciExecutor::Create(options);
    EXPECT_TRUE(executor.ok()) << executor.status();
    if (executor.ok()) executor_ = *std::move(executor);
  }

  ProcessSpec Spec(std::vector<std::string> args) {
    ProcessSpec spec;
    spec.id = absl::StrCat("test", ::getpid(), "-", ++next_id_);
    spec.rootfs = scratch_.root();
    spec.args = std::move(args);
    spec.env = {"PATH=/bin"};
    return spec;
  }
  ProcessSpec Shell(const std::string& script) { return Spec({"/bin/sh", "-c", script}); }

  Outcome Run(const ProcessSpec& spec, const CancelToken& cancel = CancelToken()) {
    Outcome outcome;
    Mutex mu;
    outcome.exit = executor_->Run(
        spec,
        [&](int stream, absl::string_view data) {
          MutexLock lock(&mu);
          absl::StrAppend(stream == 1 ? &outcome.out : &outcome.err, data);
        },
        cancel);
    return outcome;
  }

  ScratchRootfs scratch_;
  std::unique_ptr<OciExecutor> executor_;
  int next_id_ = 0;
};

TEST_F(OciExecutorTest, GivesOutputAndExitCode) {
  const Outcome outcome = Run(Shell("echo hello; echo oops >&2; exit 3"));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.exit->code, 3);
  EXPECT_FALSE(outcome.exit->oom_killed);
  EXPECT_EQ(outcome.out, "hello\n");
  EXPECT_EQ(outcome.err, "oops\n");
}

TEST_F(OciExecutorTest, SuccessIsZero) {
  const Outcome outcome = Run(Spec({"/bin/true"}));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.exit->code, 0);
  EXPECT_EQ(outcome.err, "");
}

TEST_F(OciExecutorTest, MissingProgramIs127AndNamed) {
  const Outcome outcome = Run(Spec({"/no/such/program"}));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.exit->code, 127);
  EXPECT_THAT(outcome.err, HasSubstr("/no/such/program"));
}

TEST_F(OciExecutorTest, NotExecutableIs126) {
  scratch_.Write("/file", "data");
  const Outcome outcome = Run(Spec({"/file"}));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.exit->code, 126) << outcome.err;
}

TEST_F(OciExecutorTest, DeathBySignalIs128AndMore) {
  const Outcome outcome = Run(Shell("sh -c 'kill -9 $$'; exit $?"));
  ASSERT_TRUE(outcome.exit.ok());
  EXPECT_EQ(outcome.exit->code, 137);
  EXPECT_FALSE(outcome.exit->oom_killed);
}

}  // namespace
}  // namespace kiln::daemon
