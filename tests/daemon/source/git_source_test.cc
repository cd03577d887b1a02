#include "daemon/source/git_source.h"

#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/source/git_command.h"
#include "daemon/source/git_repository.h"
#include "daemon/source/git_spec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/base/process.h"
#include "tests/daemon/session/fake_client.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/daemon/source/fake_op_context.h"
#include "tests/daemon/source/fake_ref_store.h"
#include "tests/daemon/source/git_source_fixture.h"
#include "tests/daemon/source/test_http_server.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln::daemon {
namespace {

using fsutil::TestTree;
using testing::HasSubstr;
using testing::Not;

TEST_F(GitSourceTest, DefaultBranch) {
  const std::string sha = Commit("f", "one");
  auto instance = Make();
  auto key = instance->Key(job_, 0);
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(key->key, sha);
  EXPECT_EQ(key->pin, sha);
  auto ref = instance->Snapshot(job_);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "one");
  EXPECT_FALSE(Has(*ref, ".git"));
  EXPECT_EQ(refs_.record((*ref)->id()).options.record_type, "source.git.checkout");
}

TEST_F(GitSourceTest, BranchTagAnnotatedTagAndCommit) {
  const std::string first = Commit("f", "one");
  Git("repo", {"tag", "light"});
  Git("repo", {"tag", "-a", "heavy", "-m", "t"});
  const std::string tag_object = Git("repo", {"rev-parse", "heavy"});
  Git("repo", {"checkout", "-q", "-b", "side"});
  const std::string second = Commit("f", "two");
  Git("repo", {"checkout", "-q", "main"});
  Commit("f", "three");
  struct Case {
    const char* fragment;
    std::string key, pin, content;
  };
  for (const Case& c : std::vector<Case>{{"#side", second, second, "two"},
                                         {"#refs/heads/side", second, second, "two"},
                                         {"#light", first, first, "one"},
                                         {"#heavy", first, tag_object, "one"},
                                         {"#refs/tags/heavy", first, tag_object, "one"}}) {
    FakeOpContext job;
    auto instance = Make(c.fragment);
    auto key = instance->Key(job, 0);
    ASSERT_TRUE(key.ok()) << c.fragment << key.status();
    EXPECT_EQ(key->key, c.key) << c.fragment;
    EXPECT_EQ(key->pin, c.pin) << c.fragment;
    auto ref = instance->Snapshot(job);
    ASSERT_TRUE(ref.ok()) << c.fragment << ref.status();
    EXPECT_EQ(FakeRefStore::Read(*ref, "f"), c.content) << c.fragment;
  }
  const int before = server_.connections();
  auto instance = Make("#" + first);
  EXPECT_EQ(instance->Key(job_, 0)->key, first);
  EXPECT_EQ(server_.connections(), before);  // a commit needs no question
  EXPECT_EQ(FakeRefStore::Read(*instance->Snapshot(job_), "f"), "one");
}

TEST_F(GitSourceTest, DetailsTellTheCommitAndItsTime) {
  const std::string sha = Commit("f", "one");
  Git("repo", {"tag", "-a", "heavy", "-m", "t"});
  auto plain = Make()->Details(job_, /*objects=*/false);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->git_ref, "refs/heads/main");
  EXPECT_EQ(plain->git_commit, sha);
  EXPECT_EQ(plain->git_commit_object, "");
  EXPECT_FALSE(plain->changed.has_value());
  auto tagged = Make("#heavy");
  auto whole = tagged->Details(job_, /*objects=*/true);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->git_ref, "refs/tags/heavy");
  EXPECT_EQ(whole->git_commit, sha);
  EXPECT_EQ(whole->changed, absl::FromUnixSeconds(1600000000));
  EXPECT_THAT(whole->git_commit_object, HasSubstr("committer c <c@d> 1600000000 +0000\n"));
  EXPECT_THAT(whole->git_tag_object, HasSubstr("tag heavy\n"));
  auto by_commit = Make("#" + sha)->Details(job_, /*objects=*/true);
  ASSERT_TRUE(by_commit.ok()) << by_commit.status();
  EXPECT_EQ(by_commit->changed, whole->changed);
  EXPECT_EQ(by_commit->git_tag_object, "");
  EXPECT_TRUE(tagged->Snapshot(job_).ok());
}

TEST(GitCommitTimeTest, IsThatOfTheCommitter) {
  const std::vector<std::pair<const char*, std::optional<absl::Time>>> cases = {
      {"tree x\nauthor a <b> 5 +0000\ncommitter c > <d> 7 -0300\n\ntext", absl::FromUnixSeconds(7)},
      {"committer c <d> -7 +0000", absl::FromUnixSeconds(-7)},
      {"tree x\n\ncommitter c <d> 7 +0000", std::nullopt},
      {"committer c <d>", std::nullopt},
      {"committer c <d> soon", std::nullopt},
      {"committer 7", std::nullopt},
      {"", std::nullopt},
  };
  for (const auto& [text, want] : cases) EXPECT_EQ(CommitTime(text), want) << text;
}

TEST_F(GitSourceTest, CommitThatNoNamePointsTo) {
  const std::string first = Commit("f", "one");
  Commit("f", "two");
  auto ref = Get("#" + first);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "one");
  auto absent = Get("#" + std::string(40, 'a'));
  EXPECT_FALSE(absent.ok());
  EXPECT_THAT(absent.status().message(), HasSubstr("can not be found in the repository"));
}

TEST_F(GitSourceTest, CheckoutIsSharedByKey) {
  Commit("f", "one");
  auto a = Get();
  auto b = Get("#main");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ((*a)->id(), (*b)->id());
  EXPECT_EQ(refs_.created, 2);  // the repository and one checkout
}

TEST_F(GitSourceTest, RefThatMovesIsDeliveredAsResolved) {
  Commit("f", "one");
  auto instance = Make("#main");
  ASSERT_TRUE(instance->Key(job_, 0).ok());
  Commit("f", "two");
  auto ref = instance->Snapshot(job_);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "one");
  // A job asks once; the next one asks again.
  auto same_job = Make("#main");
  EXPECT_EQ(same_job->Key(job_, 0)->key, instance->Key(job_, 0)->key);
  EXPECT_EQ(FakeRefStore::Read(*Get("#main"), "f"), "two");
}

TEST_F(GitSourceTest, ForcedBranchAndMovedTagRecover) {
  Commit("f", "one");
  Git("repo", {"tag", "v"});
  ASSERT_TRUE(Get("#v").ok());
  Git("repo", {"checkout", "-q", "--orphan", "fresh"});
  Commit("f", "other history");
  Git("repo", {"tag", "-f", "v"});
  Git("repo", {"branch", "-f", "main"});
  auto tag = Get("#v");
  ASSERT_TRUE(tag.ok()) << tag.status();
  EXPECT_EQ(FakeRefStore::Read(*tag, "f"), "other history");
  EXPECT_TRUE(Get("#main").ok());
}

TEST_F(GitSourceTest, BranchThatTakesTheNameOfAFolder) {
  Commit("f", "one");
  Git("repo", {"branch", "a/b"});
  ASSERT_TRUE(Get("#a/b").ok());
  Git("repo", {"branch", "-D", "a/b"});
  Commit("f", "two");
  Git("repo", {"branch", "a"});
  auto ref = Get("#a");
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "two");
}

TEST_F(GitSourceTest, KeepGitDir) {
  const std::string sha = Commit("f", "one");
  Git("repo", {"tag", "-a", "v1", "-m", "t"});
  auto instance = Make("#main", {{"git.keepgitdir", "true"}});
  EXPECT_EQ(instance->Key(job_, 0)->key, sha + ".git#refs/heads/main");
  auto ref = instance->Snapshot(job_);
  ASSERT_TRUE(ref.ok()) << ref.status();
  const std::string dir = FakeRefStore::Dir(*ref);
  EXPECT_TRUE(Has(*ref, ".git"));
  EXPECT_FALSE(Has(*ref, ".git/FETCH_HEAD"));
  ProcessOptions options;
  options.args = {"git", "-c", "safe.directory=*", "-C", dir, "status", "--porcelain"};
  EXPECT_EQ(*RunCommandForOutput(options, {}), "");
  options.args = {"git", "-c", "safe.directory=*", "-C", dir, "rev-parse", "HEAD"};
  EXPECT_EQ(absl::StripAsciiWhitespace(*RunCommandForOutput(options, {})), sha);
  options.args = {"git", "-c", "safe.directory=*", "-C", dir, "remote", "get-url", "origin"};
  EXPECT_EQ(absl::StripAsciiWhitespace(*RunCommandForOutput(options, {})), server_.Remote("repo"));

  auto tag = Get("#v1", {{"git.keepgitdir", "true"}});
  ASSERT_TRUE(tag.ok()) << tag.status();
  options.args = {"git", "-c", "safe.directory=*", "-C", FakeRefStore::Dir(*tag), "describe"};
  EXPECT_EQ(absl::StripAsciiWhitespace(*RunCommandForOutput(options, {})), "v1");
  EXPECT_TRUE(Get("#" + sha, {{"git.keepgitdir", "true"}}).ok());
}

TEST_F(GitSourceTest, Subdir) {
  served_.Dir("repo/a");
  served_.Dir("repo/a/b");
  served_.Link("repo/l", "a");
  served_.File("repo/a/b/f", "deep", 0755);
  const std::string sha = Commit("top", "t");
  auto instance = Make("#main:a//b/");
  EXPECT_EQ(instance->Key(job_, 0)->key, sha + ":a/b");
  auto ref = instance->Snapshot(job_);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "deep");
  EXPECT_FALSE(Has(*ref, "top"));
  auto cursor = fsutil::DirectoryCursor::Open(FakeRefStore::Dir(*ref));
  ASSERT_TRUE(*(*cursor)->Next());
  EXPECT_EQ((*cursor)->path(), "f");
  EXPECT_FALSE(*(*cursor)->Next());
  EXPECT_THAT(Get("#main:l").status().message(), HasSubstr("contains non-directory"));
  EXPECT_THAT(Get("#main:none").status().message(), HasSubstr("invalid subdir none"));
  EXPECT_THAT(Get("#main:top").status().message(), HasSubstr("contains non-directory"));
}

TEST_F(GitSourceTest, ModesAndTimes) {
  served_.File("repo/run", "#!", 0755);
  Commit("f", "x");
  ::umask(0);
  auto ref = Get("", {{"git.mtime", "commit"}});
  ASSERT_TRUE(ref.ok()) << ref.status();
  struct stat st;
  ASSERT_EQ(::lstat((FakeRefStore::Dir(*ref) + "/run").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0755u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1600000000);
  ASSERT_EQ(::lstat((FakeRefStore::Dir(*ref) + "/f").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0644u);
  EXPECT_TRUE(
      absl::EndsWith(Make("", {{"git.mtime", "commit"}})->Key(job_, 0)->key, "(mtime=commit)"));
}

TEST_F(GitSourceTest, SubmodulesUnlessSkipped) {
  Init("sub");
  Commit("inner", "from sub", "sub");
  Commit("f", "x");
  Git("repo", {"submodule", "--quiet", "add", server_.Remote("sub"), "mod"});
  Git("repo", {"commit", "-q", "-m", "module"});
  auto ref = Get();
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "mod/inner"), "from sub");
  EXPECT_FALSE(Has(*ref, "mod/.git"));
  auto skipped = Get("", {{"git.skipsubmodules", "true"}});
  ASSERT_TRUE(skipped.ok());
  EXPECT_FALSE(Has(*skipped, "mod/inner"));
  auto kept = Get("", {{"git.keepgitdir", "true"}});
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(FakeRefStore::Read(*kept, "mod/inner"), "from sub");
}

TEST_F(GitSourceTest, SubmoduleFromTheLocalDiskIsRefused) {
  Init("sub");
  Commit("inner", "x", "sub");
  Commit("f", "x");
  Git("repo", {"submodule", "--quiet", "add", served_ / "sub", "mod"});
  Git("repo", {"commit", "-q", "-m", "module"});
  EXPECT_THAT(Get().status().message(), HasSubstr("failed to update submodules"));
}

TEST_F(GitSourceTest, Checksum) {
  const std::string sha = Commit("f", "one");
  Git("repo", {"tag", "-a", "v1", "-m", "t"});
  const std::string tag = Git("repo", {"rev-parse", "v1"});
  EXPECT_TRUE(Get("#main", {{"git.checksum", sha.substr(0, 10)}}).ok());
  EXPECT_TRUE(Get("#v1", {{"git.checksum", sha}}).ok());
  EXPECT_TRUE(Get("#v1", {{"git.checksum", tag}}).ok());
  FakeOpContext job;
  EXPECT_THAT(Make("#main", {{"git.checksum", "abcdef"}})->Key(job, 0).status().message(),
              HasSubstr("expected checksum to match abcdef, got " + sha));
}

TEST_F(GitSourceTest, FetchByCommit) {
  const std::string first = Commit("f", "one");
  Commit("f", "two");
  auto instance = Make("#main", {{"git.checksum", first}, {"git.fetchbycommit", "true"}});
  const int before = server_.connections();
  EXPECT_EQ(instance->Key(job_, 0)->key, first);
  EXPECT_EQ(server_.connections(), before);
  auto ref = instance->Snapshot(job_);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "one");
  auto kept =
      Get("#main",
          {{"git.checksum", first}, {"git.fetchbycommit", "true"}, {"git.keepgitdir", "true"}});
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(FakeRefStore::Read(*kept, "f"), "one");
}

TEST_F(GitSourceTest, MissingRefAndRepositoryAreNamed) {
  Commit("f", "one");
  EXPECT_THAT(Get("#nope").status().message(), HasSubstr("does not contain ref nope"));
  EXPECT_THAT(Get("#main", {}, "absent").status().message(),
              HasSubstr("failed to fetch remote " + server_.Remote("absent")));
}

TEST_F(GitSourceTest, EmptyTreeIsFine) {
  Git("repo", {"commit", "-q", "--allow-empty", "-m", "nothing"});
  auto ref = Get();
  ASSERT_TRUE(ref.ok()) << ref.status();
}

TEST_F(GitSourceTest, NothingStaysInTheRuntimeFolder) {
  Commit("f", "one");
  ASSERT_TRUE(Get("", {{"git.knownsshhosts", "host ssh-rsa AAA"}}).ok());
  auto cursor = fsutil::DirectoryCursor::Open(runtime_.path());
  EXPECT_FALSE(*(*cursor)->Next());
}

TEST_F(GitSourceTest, CancelEndsAHangingRemote) {
  FakeOpContext job;
  TestHttpServer server([&](const TestHttpRequest&) {
    job.Cancel(absl::CancelledError("enough"));
    return std::string();
  });
  auto instance = source_.Resolve({"git://host/r", {{"git.fullurl", server.Url("/r.git")}}});
  EXPECT_EQ((*instance)->Key(job, 0).status(), absl::CancelledError("enough"));
}

TEST_F(GitSourceTest, SecretsAuthorizeHttp) {
  FakeClient client;
  sessions_.sessions["s1"] = std::make_shared<FakeSession>("s1", client.Channel());
  TestHttpServer server(
      [](const TestHttpRequest&) { return TestHttpServer::Answer("403 Forbidden", {}, "no"); });
  auto ask = [&] {
    FakeOpContext job;
    job.session_ids = {"s1"};
    auto instance = source_.Resolve({"git://h/r",
                                     {{"git.fullurl", server.Url("/r.git")},
                                      {"git.authtokensecret", "GIT_AUTH_TOKEN"},
                                      {"git.authheadersecret", "GIT_AUTH_HEADER"}}});
    server.Forget();
    const absl::Status status = (*instance)->Key(job, 0).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(status.message(), Not(HasSubstr("t0ken")));
    const auto headers = server.requests().at(0).headers;
    auto it = headers.find("authorization");
    return it == headers.end() ? "" : it->second;
  };
  EXPECT_EQ(ask(), "");
  client.secrets["GIT_AUTH_TOKEN"] = "t0ken";
  EXPECT_EQ(ask(), "basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=");
  client.secrets["GIT_AUTH_HEADER"] = "bearer x";
  EXPECT_EQ(ask(), "bearer x");
  client.secrets[absl::StrCat("GIT_AUTH_TOKEN.127.0.0.1:", server.port())] = "t0ken";
  EXPECT_EQ(ask(), "basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=");
}

TEST_F(GitSourceTest, PasswordsDoNotShow) {
  FakeOpContext job;
  auto instance =
      source_.Resolve({"git://h/r", {{"git.fullurl", "http://user:hunter2@127.0.0.1:1/r.git"}}});
  const absl::Status status = (*instance)->Key(job, 0).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), Not(HasSubstr("hunter2")));
}

struct BadSpecCase {
  const char* name;
  const char* identifier;
  std::map<std::string, std::string> attrs;
  absl::StatusCode code;
  const char* want;
};
class BadGitSpecTest : public testing::TestWithParam<BadSpecCase> {};
TEST_P(BadGitSpecTest, IsNamed) {
  const absl::Status status = ParseGitSpec({GetParam().identifier, GetParam().attrs}).status();
  EXPECT_EQ(status.code(), GetParam().code) << status;
  EXPECT_THAT(status.message(), HasSubstr(GetParam().want));
}
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
INSTANTIATE_TEST_SUITE_P(
    Specs, BadGitSpecTest,
    testing::ValuesIn<BadSpecCase>(
        {{"OptionAsRef", "git://h/r#--upload-pack=x", {}, kInvalid, "invalid git ref"},
         {"FileUrl", "git://h/r", {{"git.fullurl", "file:///etc"}}, kInvalid, "protocol file"},
         {"ExtUrl", "git://h/r", {{"git.fullurl", "ext://x"}}, kInvalid, "protocol ext"},
         {"Checksum", "git://h/r", {{"git.checksum", "xyz"}}, kInvalid, "git.checksum"},
         {"Mtime", "git://h/r", {{"git.mtime", "now"}}, kInvalid, "git.mtime"},
         {"ByCommit", "git://h/r", {{"git.fetchbycommit", "true"}}, kInvalid, "fetch-by-commit"},
         {"ByShort",
          "git://h/r",
          {{"git.fetchbycommit", "true"}, {"git.checksum", "abc"}},
          kInvalid,
          "full commit SHA"},
         {"Mismatch",
          "git://h/r#aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          {{"git.checksum", "bbb"}},
          kInvalid,
          "expected checksum to match bbb"},
         {"BundleScheme", "git://h/r", {{"git.bundle", "https://x"}}, kInvalid, "locator"},
         {"BundleDigest",
          "git://h/r",
          {{"git.bundle", "docker-image+blob://a/b@sha256:12"}},
          kInvalid,
          "@sha256:HEX"},
         {"BundleChecksum",
          "git://h/r",
          {{"git.bundle", "oci-layout+blob://a/b@sha256:" + std::string(64, 'a')}},
          kInvalid,
          "git.bundle requires git.checksum"},
         {"CheckoutBundleGitDir",
          "git://h/r",
          {{"git.checkoutbundle", "true"}, {"git.keepgitdir", "true"}},
          kInvalid,
          "incompatible with git.keepgitdir"},
         {"CheckoutBundleSubdir",
          "git://h/r#main:d",
          {{"git.checkoutbundle", "true"}},
          kInvalid,
          "incompatible with git.subdir"},
         {"NoKey",
          "git://h/r",
          {{"git.sig.requiresignedtag", "true"}},
          kInvalid,
          "requires git.sig.pubkey"},
         {"UnknownSignatureRule",
          "git://h/r",
          {{"git.sig.pubkey", "k"}, {"git.sig.new", "x"}},
          kUnimplemented,
          "git.sig.new"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(GitSpec, Remotes) {
  EXPECT_EQ(ParseGitSpec({"git://github.com/a/b.git#r:s", {}})->remote,
            "https://github.com/a/b.git");
  EXPECT_EQ(ParseGitSpec({"git://x", {{"git.fullurl", "git@host:a/b"}}})->remote, "git@host:a/b");
  EXPECT_EQ(ParseGitSpec({"git://x", {{"git.fullurl", "host/a"}}})->remote, "https://host/a");
  EXPECT_EQ(ParseGitSpec({"git://h/r#a%2Fb:/x/../y/", {}})->ref, "a/b");
  EXPECT_EQ(ParseGitSpec({"git://h/r#a:/x/../y/", {}})->subdir, "y");
  EXPECT_EQ(ParseGitSpec({"git://h", {{"git.fullurl", "https://u:p@h/r@x"}}})->redacted(),
            "https://xxxxx@h/r@x");
  EXPECT_EQ(ParseGitSpec({"git://h", {{"git.fullurl", "ssh://git@h/r"}}})->redacted(),
            "ssh://git@h/r");
}

TEST(NamedLocks, OneHolderAtATime) {
  NamedLocks locks;
  CancelSource cancel;
  auto a = locks.Acquire("x", {});
  ASSERT_TRUE(a.ok());
  EXPECT_TRUE(locks.Acquire("y", {}).ok());
  absl::Status status;
  std::thread waiter([&] { status = locks.Acquire("x", cancel.token()).status(); });
  cancel.Cancel(absl::CancelledError("no more"));
  waiter.join();
  EXPECT_EQ(status, absl::CancelledError("no more"));
  { auto gone = *std::move(a); }
  EXPECT_TRUE(locks.Acquire("x", {}).ok());
}

}  // namespace
}  // namespace kiln::daemon
