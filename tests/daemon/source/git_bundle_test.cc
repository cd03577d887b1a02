// Bundles as results (git.checkoutbundle) and in the remote's place (git.bundle).
#include <filesystem>

#include "proto/digest.h"
#include "store/base/process.h"
#include "tests/daemon/source/git_source_fixture.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GitBundleTest : public GitSourceTest {
 protected:
  // Clones the bundle that a ref holds into a folder of the server.
  void Clone(const store::RefPtr& ref, const std::string& name) {
    Git("repo", {"clone", "-q", "-b", "main", FakeRefStore::Dir(ref) + "/bundle", served_ / name});
  }
  // The locator of a bundle of these refs.
  std::string Bundle(std::vector<std::string> refs) {
    const std::string file = served_ / "made.bundle";
    refs.insert(refs.begin(), {"bundle", "create", "-q", file});
    Git("repo", refs);
    const std::string bytes = served_.Read("made.bundle");
    const std::string locator =
        absl::StrCat("docker-image+blob://h/a@", Digest::Of(bytes).ToString());
    blobs_.blobs[locator] = bytes;
    return locator;
  }
  // A source whose remote is not there.
  absl::StatusOr<std::shared_ptr<SourceInstance>> Offline(
      const std::string& fragment, std::map<std::string, std::string> attrs) {
    attrs["git.fullurl"] = "git://127.0.0.1:1/gone";
    return source_.Resolve({"git://127.0.0.1:1/gone" + fragment, std::move(attrs)});
  }
};

TEST_F(GitBundleTest, ResultIsOneFileWithTheWholeHistory) {
  Commit("f", "one");
  const std::string second = Commit("f", "two");
  ASSERT_TRUE(Get().ok());  // a shallow fetch goes before
  auto instance = Make("", {{"git.checkoutbundle", "true"}});
  EXPECT_EQ(instance->Key(job_, 0)->key, second + "(bundle)");
  const auto ref = instance->Snapshot(job_);
  ASSERT_TRUE(ref.ok()) << ref.status();
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(FakeRefStore::Dir(*ref)))
    names.push_back(entry.path().filename());
  EXPECT_THAT(names, ElementsAre("bundle"));
  Clone(*ref, "clone");
  EXPECT_EQ(Git("clone", {"log", "--format=%s %H"}).substr(0, 7 + 40), "change " + second);
  EXPECT_EQ(Git("clone", {"rev-list", "--count", "HEAD"}), "2");
  EXPECT_EQ(Git("clone", {"rev-parse", "origin/main"}), second);
}

TEST_F(GitBundleTest, ResultKeepsTheName) {
  const std::string first = Commit("f", "one");
  Git("repo", {"tag", "-a", "-m", "t", "heavy"});
  const std::string tag = Git("repo", {"rev-parse", "heavy"});
  Git("repo", {"branch", "side"});
  const std::string second = Commit("f", "two");
  for (const auto& [fragment, listed] : {std::pair("#side", first + "\trefs/heads/side"),
                                         std::pair("#refs/heads/side", first + "\trefs/heads/side"),
                                         std::pair("#refs/tags/heavy", tag + "\trefs/tags/heavy"),
                                         std::pair("#heavy", first + "\trefs/heads/heavy")}) {
    const auto ref = Get(fragment, {{"git.checkoutbundle", "true"}});
    ASSERT_TRUE(ref.ok()) << fragment << ref.status();
    EXPECT_EQ(Git("repo", {"ls-remote", FakeRefStore::Dir(*ref) + "/bundle"}), listed) << fragment;
  }
  const auto ref = Get("#" + second, {{"git.checkoutbundle", "true"}});
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(Git("repo", {"ls-remote", FakeRefStore::Dir(*ref) + "/bundle"}),
            second + "\trefs/heads/main");
}

TEST_F(GitBundleTest, BundleStandsForTheRemote) {
  const std::string first = Commit("f", "one");
  Git("repo", {"tag", "-a", "-m", "t", "heavy"});
  const std::string tag = Git("repo", {"rev-parse", "heavy"});
  const std::string second = Commit("f", "two");
  const std::string locator = Bundle({"main", "heavy"});
  struct Case {
    std::string fragment, checksum, key, pin, content;
  };
  for (const Case& c : std::vector<Case>{{"", second, second, second, "two"},
                                         {"#" + first, first, first, first, "one"},
                                         {"#main", second.substr(0, 12), second, second, "two"},
                                         {"#heavy", first, first, tag, "one"}}) {
    FakeOpContext job;
    auto instance = Offline(c.fragment, {{"git.bundle", locator}, {"git.checksum", c.checksum}});
    ASSERT_TRUE(instance.ok()) << instance.status();
    const auto key = (*instance)->Key(job, 0);
    ASSERT_TRUE(key.ok()) << c.fragment << key.status();
    EXPECT_EQ(key->key, c.key);
    EXPECT_EQ(key->pin, c.pin);
    const auto ref = (*instance)->Snapshot(job);
    ASSERT_TRUE(ref.ok()) << c.fragment << ref.status();
    EXPECT_EQ(FakeRefStore::Read(*ref, "f"), c.content);
  }
  EXPECT_EQ(server_.connections(), 0);
}

TEST_F(GitBundleTest, KeepsTheGitDirOfABundle) {
  const std::string first = Commit("f", "one");
  Git("repo", {"tag", "-a", "-m", "t", "heavy"});
  const std::string locator = Bundle({"main", "heavy"});
  for (const char* fragment : {"", "#main", "#heavy"}) {
    auto instance = Offline(
        fragment, {{"git.bundle", locator}, {"git.checksum", first}, {"git.keepgitdir", "true"}});
    FakeOpContext job;
    const auto ref = (*instance)->Snapshot(job);
    ASSERT_TRUE(ref.ok()) << fragment << ref.status();
    ProcessOptions options;
    options.args = {"git", "-c", "safe.directory=*", "rev-parse", "HEAD"};
    options.cwd = FakeRefStore::Dir(*ref);
    EXPECT_EQ(RunCommandForOutput(options, {}).value_or(""), first + "\n") << fragment;
  }
}

TEST_F(GitBundleTest, WhatIsNotInTheBundleIsNamed) {
  const std::string first = Commit("f", "one");
  const std::string locator = Bundle({"main"});
  const std::string second = Commit("f", "two");
  FakeOpContext job;
  auto absent = Offline("", {{"git.bundle", locator}, {"git.checksum", second}});
  EXPECT_THAT(std::string((*absent)->Snapshot(job).status().message()),
              HasSubstr("commit " + second + " not found in bundle"));
  auto branch = Offline("#side", {{"git.bundle", locator}, {"git.checksum", first}});
  EXPECT_THAT(std::string((*branch)->Key(job, 0).status().message()),
              HasSubstr("does not contain ref side"));
  blobs_.blobs[locator] = "no bundle at all";
  auto broken = Offline("#main", {{"git.bundle", locator}, {"git.checksum", second}});
  FakeOpContext other;
  EXPECT_THAT(std::string((*broken)->Key(other, 0).status().message()),
              HasSubstr("inspect git bundle"));
  blobs_.blobs.clear();
  EXPECT_THAT(std::string((*absent)->Snapshot(job).status().message()),
              HasSubstr("failed to fetch git bundle " + locator));
}

TEST_F(GitBundleTest, LayoutsAreFoundByTheirName) {
  const std::string first = Commit("f", "one");
  const std::string hex = std::string(64, 'a');
  auto instance = Offline("", {{"git.bundle", "oci-layout+blob://store/x@sha256:" + hex},
                               {"git.checksum", first},
                               {"oci.session", "s"}});
  EXPECT_FALSE((*instance)->Snapshot(job_).ok());
  EXPECT_EQ(blobs_.asked.attrs.at("oci.store"), "store/x");
  EXPECT_EQ(blobs_.asked.attrs.at("oci.session"), "s");
}

}  // namespace
}  // namespace kiln::daemon
