// Git repositories as sources of whole builds.
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/daemon/source/run_git.h"
#include "tests/daemon/source/test_git_server.h"
#include "tests/integration/image_fixture.h"

namespace kiln::integration {
namespace {

namespace llb = client::llb;
using testing::HasSubstr;

class GitTest : public BuildTest {
 protected:
  GitTest() { daemon::RunGit(served_.path(), {"init", "-q", "-b", "main", "repo"}); }

  // A commit of what is there, changed or not.
  std::string Commit(const std::string& message) {
    const std::string repo = served_.path() + "/repo";
    daemon::RunGit(repo, {"add", "-A"});
    daemon::RunGit(repo, {"commit", "-q", "--allow-empty", "-m", message});
    return daemon::RunGit(repo, {"rev-parse", "HEAD"});
  }

  TempDir served_;
  daemon::GitServer server_{served_.path()};
};

TEST_F(GitTest, Llb6_57_ACommitOfTheSameTreeIsCheckedOutAndHitsByContent) {
  served_.Write("repo/src/file", "text");
  const auto build = [&](SeenProgress* seen) {
    llb::RunInfo run = CountedStep("consume", "consumed", "cat /src/src/file > /out/copy");
    run.mounts.push_back({.target = "/src",
                          .source = llb::Git(server_.Remote("repo"), {.ref = "main"}),
                          .readonly = true});
    llb::ExecState exec = base_.state().Run(run);
    TempDir out;
    const absl::Status status = Run(exec.AddMount({.target = "/out"}), seen, out.path());
    EXPECT_EQ(status, absl::OkStatus());
    EXPECT_EQ(Slurp(out.path() + "/copy"), "text");
  };
  const auto checkout_ran = [](const SeenProgress& seen) {
    for (const auto& [name, step] : seen.steps())
      if (absl::StrContains(name, "git://")) return step.completed && !step.cached;
    return false;
  };
  const std::string first = Commit("one");
  SeenProgress seen;
  build(&seen);
  EXPECT_TRUE(checkout_ran(seen));
  EXPECT_NE(Commit("two"), first);
  SeenProgress again;
  build(&again);
  EXPECT_TRUE(checkout_ran(again));
  EXPECT_EQ(Runs("consumed", "57"), 1);
}

TEST_F(GitTest, S130TheEpochOfAGitContextIsTheTimeOfItsCommit) {
  served_.Write("repo/Dockerfile", "FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY file /file\n");
  served_.Write("repo/file", "text");
  Commit("one");
  TempDir out;
  ProcessOptions options;
  options.args = {KILN_BINARY,
                  "--addr",
                  daemon_->address(),
                  "build",
                  server_.Remote("repo"),
                  "--build-arg",
                  "SOURCE_DATE_EPOCH=context",
                  "--output",
                  absl::StrCat("type=oci,dest=", out.path(), "/image.tar")};
  ASSERT_TRUE(RunCommandForOutput(options, {}).ok());
  options.args = {"skopeo", "inspect", "--config", "oci-archive:" + out.path() + "/image.tar"};
  const auto config = RunCommandForOutput(options, {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(nlohmann::json::parse(*config).at("created"), "2020-09-13T12:26:40Z");
}

}  // namespace
}  // namespace kiln::integration
