// Git repositories as sources of whole builds.
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/daemon/source/test_git_server.h"
#include "tests/integration/image_fixture.h"

namespace kiln::integration {
namespace {

namespace llb = client::llb;
using testing::HasSubstr;

class GitTest : public BuildTest {
 protected:
  GitTest() { Git({"init", "-q", "-b", "main", served_.path() + "/repo"}, served_.path()); }

  static std::string Git(std::vector<std::string> args, const std::string& dir) {
    ProcessOptions options;
    options.args = {"git"};
    options.args.insert(options.args.end(), args.begin(), args.end());
    options.cwd = dir;
    options.env = {absl::StrCat("PATH=", std::getenv("PATH")),
                   "HOME=/dev/null",
                   "GIT_CONFIG_NOSYSTEM=1",
                   "GIT_AUTHOR_NAME=a",
                   "GIT_AUTHOR_EMAIL=a@b",
                   "GIT_COMMITTER_NAME=c",
                   "GIT_COMMITTER_EMAIL=c@d",
                   "GIT_AUTHOR_DATE=1500000000 +0000",
                   "GIT_COMMITTER_DATE=1600000000 +0000"};
    const auto out = RunCommandForOutput(options, {});
    EXPECT_TRUE(out.ok()) << out.status();
    return std::string(absl::StripAsciiWhitespace(out.value_or("")));
  }
  // A commit of what is there, changed or not.
  std::string Commit(const std::string& message) {
    const std::string repo = served_.path() + "/repo";
    Git({"add", "-A"}, repo);
    Git({"commit", "-q", "--allow-empty", "-m", message}, repo);
    return Git({"rev-parse", "HEAD"}, repo);
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
