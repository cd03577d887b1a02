#include "daemon/source/local_source.h"

#include <thread>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/digest.h"
#include "tests/daemon/session/fake_client.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/daemon/source/fake_op_context.h"
#include "tests/daemon/source/fake_ref_store.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln::daemon {
namespace {

using fsutil::TestTree;
using testing::HasSubstr;

class LocalSourceTest : public testing::Test {
 protected:
  LocalSourceTest() {
    client_.dirs["context"] = tree_.path();
    sessions_.sessions["s1"] = session_ =
        std::make_shared<FakeSession>("s1", client_.Channel(), "here");
    context_.session_ids = {"s1"};
  }

  std::shared_ptr<SourceInstance> Make(std::map<std::string, std::string> attrs,
                                       const std::string& id = "local://context") {
    auto instance = source_.Resolve({id, std::move(attrs)});
    EXPECT_TRUE(instance.ok()) << instance.status();
    return instance.ok() ? *instance : nullptr;
  }
  absl::StatusOr<store::RefPtr> Sync(std::map<std::string, std::string> attrs = {}) {
    return Make(std::move(attrs))->Snapshot(context_);
  }

  TestTree tree_;
  FakeClient client_;
  std::shared_ptr<FakeSession> session_;
  FakeSessions sessions_;
  FakeRefStore refs_;
  FakeOpContext context_;
  LocalSource source_{&refs_, &sessions_};
};

TEST_F(LocalSourceTest, KeyIsOfSessionAndPatterns) {
  auto key = Make({{"local.session", "s1"},
                   {"local.excludepatterns", "[\"*.o\",\"<x>\"]"},
                   {"local.followpaths", "[]"}})
                 ->Key(context_, 0);
  ASSERT_TRUE(key.ok());
  const std::string json =
      R"({"SessionID":"s1","IncludePatterns":null,"ExcludePatterns":["*.o","\u003cx\u003e"],)"
      R"("FollowPaths":[]})";
  EXPECT_EQ(key->pin, Digest::Of(json).ToString());
  EXPECT_EQ(key->key, "session:context:" + key->pin);
  EXPECT_TRUE(key->done);
}

TEST_F(LocalSourceTest, KeyTakesASessionOfTheVertexOrFails) {
  auto key = Make({})->Key(context_, 0);
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(key->pin, Digest::Of(R"({"SessionID":"s1","IncludePatterns":null,)"
                                 R"("ExcludePatterns":null,"FollowPaths":null})")
                          .ToString());
  context_.session_ids.clear();
  EXPECT_THAT(Make({})->Key(context_, 0).status().message(),
              HasSubstr("could not access local files without session"));
}

TEST_F(LocalSourceTest, PrefixedSessionRenamesTheDirectory) {
  client_.dirs["stage-context"] = tree_.path();
  tree_.File("f", "x");
  auto instance = Make({{"local.session", "stage:s1"}});
  EXPECT_THAT(instance->Key(context_, 0)->key, testing::StartsWith("session:stage-context:"));
  auto ref = instance->Snapshot(context_);
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "x");
}

TEST_F(LocalSourceTest, BadAttributesAreNamed) {
  for (const auto& [attr, value] :
       std::map<std::string, std::string>{{"local.includepattern", "*.c"},
                                          {"local.excludepatterns", "[1]"},
                                          {"local.followpaths", "{}"},
                                          {"local.metadatatransfer", "maybe"},
                                          {"local.metadatatransferexclude", "["}}) {
    auto instance = source_.Resolve({"local://context", {{attr, value}}});
    EXPECT_EQ(instance.status().code(), absl::StatusCode::kInvalidArgument) << attr;
    EXPECT_THAT(instance.status().message(), HasSubstr(attr));
  }
  EXPECT_TRUE(source_.Resolve({"local://context", {{"local.unknown", "x"}}}).ok());
}

TEST_F(LocalSourceTest, SnapshotHasTheFiles) {
  tree_.Dir("d", 0750);
  tree_.File("d/f", "data", 0640);
  tree_.File("big", std::string(2 << 20, 'b'));
  tree_.Hard("d/g", "d/f");
  tree_.Link("l", "/abs");
  auto ref = Sync({{"local.session", "s1"}});
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "d/g"), "data");
  EXPECT_EQ(FakeRefStore::Read(*ref, "big").size(), 2u << 20);
  struct stat st;
  ASSERT_EQ(::lstat((FakeRefStore::Dir(*ref) + "/d/f").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0640u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1000);
  EXPECT_EQ(st.st_nlink, 2u);
  ASSERT_EQ(::lstat((FakeRefStore::Dir(*ref) + "/d").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0750u);
  const auto& record = refs_.record((*ref)->id());
  EXPECT_EQ(record.options.record_type, "source.local");
  EXPECT_EQ(record.options.description, "local source for context");
  EXPECT_TRUE(record.options.retain);
  EXPECT_EQ(record.index_key, "local.sharedKey:context::here");
}

TEST_F(LocalSourceTest, ProgressIsOneLine) {
  tree_.File("f", "data");
  ASSERT_TRUE(Sync().ok());
  ASSERT_GE(context_.statuses.size(), 2u);
  for (const auto& status : context_.statuses) {
    EXPECT_EQ(status.id, "transferring context:");
    EXPECT_EQ(status.name, "transferring");
  }
  EXPECT_GT(context_.statuses.back().current, 0);
  EXPECT_NE(context_.statuses.back().completed, absl::InfinitePast());
}

TEST_F(LocalSourceTest, EarlierCopyIsUpdatedInPlace) {
  for (int i = 0; i < 50; ++i) tree_.File(absl::StrCat("f", i), std::string(1000, 'a'));
  tree_.File("gone", "x");
  std::string first_dir;
  {
    auto ref = Sync({{"local.sharedkeyhint", "hint"}});
    ASSERT_TRUE(ref.ok());
    first_dir = FakeRefStore::Dir(*ref);
  }
  const int64_t first_bytes = context_.statuses.back().current;
  tree_.File("f7", "changed", 0644, 2000);
  ASSERT_TRUE(fsutil::RemoveTree(AT_FDCWD, tree_ / "gone").ok());
  context_.statuses.clear();
  auto ref = Sync({{"local.sharedkeyhint", "hint"}});
  ASSERT_TRUE(ref.ok());
  EXPECT_EQ(FakeRefStore::Dir(*ref), first_dir);
  EXPECT_EQ(FakeRefStore::Read(*ref, "f7"), "changed");
  EXPECT_THAT(FakeRefStore::Read(*ref, "gone"), HasSubstr("No such file"));
  EXPECT_LT(context_.statuses.back().current, first_bytes / 5);
  EXPECT_EQ(refs_.created, 1);
}

TEST_F(LocalSourceTest, CopyInUseIsNotTouched) {
  tree_.File("f", "one");
  auto first = Sync();
  ASSERT_TRUE(first.ok());
  tree_.File("f", "two", 0644, 2000);
  auto second = Sync();
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(FakeRefStore::Read(*first, "f"), "one");
  EXPECT_EQ(FakeRefStore::Read(*second, "f"), "two");
  EXPECT_EQ(refs_.created, 2);
}

// Two builds of one folder at once; the second one's client sends what differs and nothing else.
TEST_F(LocalSourceTest, ACopyInUseIsWhatAnotherOneStartsFrom) {
  tree_.Dir("d", 0750);
  for (int i = 0; i < 50; ++i) tree_.File(absl::StrCat("d/f", i), std::string(1000, 'a'));
  tree_.File("gone", "x");
  tree_.Link("l", "gone");
  auto first = Sync();
  ASSERT_TRUE(first.ok());
  const int64_t first_bytes = context_.statuses.back().current;
  tree_.File("d/f7", "changed", 0644, 2000);
  ASSERT_TRUE(fsutil::RemoveTree(AT_FDCWD, tree_ / "gone").ok());
  context_.statuses.clear();
  auto second = Sync();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(refs_.created, 2);
  EXPECT_LT(context_.statuses.back().current, first_bytes / 5);
  EXPECT_EQ(FakeRefStore::Read(*second, "d/f7"), "changed");
  EXPECT_EQ(FakeRefStore::Read(*second, "d/f8"), std::string(1000, 'a'));
  EXPECT_THAT(FakeRefStore::Read(*second, "gone"), HasSubstr("No such file"));
  struct stat st, theirs;
  ASSERT_EQ(::lstat((FakeRefStore::Dir(*second) + "/d").c_str(), &st), 0);
  ASSERT_EQ(::lstat((tree_ / "d").c_str(), &theirs), 0);
  EXPECT_EQ(st.st_mode & 07777, 0750u);
  EXPECT_EQ(absl::TimeFromTimespec(st.st_mtim), absl::TimeFromTimespec(theirs.st_mtim));
  ASSERT_EQ(::lstat((FakeRefStore::Dir(*second) + "/l").c_str(), &st), 0);
  EXPECT_EQ(FakeRefStore::Read(*first, "d/f7"), std::string(1000, 'a'));
  EXPECT_EQ(FakeRefStore::Read(*first, "gone"), "x");
}

// A client in the midst of its transfer, and another one with the same folder.
class TwoClientsTest : public LocalSourceTest {
 protected:
  TwoClientsTest() {
    for (int i = 0; i < 50; ++i) tree_.File(absl::StrCat("f", i), std::string(1000, 'a'));
    second_client_.dirs["context"] = tree_.path();
    sessions_.sessions["s2"] =
        std::make_shared<FakeSession>("s2", second_client_.Channel(), "here");
    second_context_.session_ids = {"s2"};
    client_.on_file_sync = [this](Headers&) {
      first_sends_.Notify();
      first_may_go_on_.WaitForNotification();
    };
    first_ = std::thread([this] { first_ref_ = Sync(); });
    first_sends_.WaitForNotification();
    while (refs_.live() == 0) std::this_thread::yield();  // it has its copy
  }

  void StartSecond() {
    const int before = refs_.searches.load();
    second_ = std::thread([this] { second_ref_ = Make({})->Snapshot(second_context_); });
    while (refs_.searches.load() == before) std::this_thread::yield();
  }

  FakeClient second_client_;
  FakeOpContext second_context_;
  absl::Notification first_sends_, first_may_go_on_;
  std::thread first_, second_;
  absl::StatusOr<store::RefPtr> first_ref_, second_ref_;
};

TEST_F(TwoClientsTest, TheSecondOneWaitsAndSendsTheListingOnly) {
  StartSecond();
  first_may_go_on_.Notify();
  first_.join();
  second_.join();
  ASSERT_TRUE(first_ref_.ok()) << first_ref_.status();
  ASSERT_TRUE(second_ref_.ok()) << second_ref_.status();
  EXPECT_LT(second_context_.statuses.back().current, context_.statuses.back().current / 5);
  EXPECT_EQ(FakeRefStore::Read(*second_ref_, "f9"), std::string(1000, 'a'));
  EXPECT_EQ(FakeRefStore::Dir(*first_ref_), FakeRefStore::Dir(*second_ref_));
  EXPECT_EQ(refs_.created, 1);
}

TEST_F(TwoClientsTest, WhoWaitsCanGiveUp) {
  StartSecond();
  second_context_.Cancel(absl::CancelledError("stop"));
  second_.join();
  EXPECT_EQ(second_ref_.status().code(), absl::StatusCode::kCancelled);
  first_may_go_on_.Notify();
  first_.join();
  EXPECT_TRUE(first_ref_.ok()) << first_ref_.status();
}

TEST_F(TwoClientsTest, AfterAFailureTheSecondOneSendsEverything) {
  StartSecond();
  context_.Cancel(absl::CancelledError("stop"));
  first_may_go_on_.Notify();
  first_.join();
  second_.join();
  EXPECT_EQ(first_ref_.status().code(), absl::StatusCode::kCancelled);
  ASSERT_TRUE(second_ref_.ok()) << second_ref_.status();
  EXPECT_EQ(FakeRefStore::Read(*second_ref_, "f9"), std::string(1000, 'a'));
  EXPECT_EQ(refs_.live(), 1u);
}

TEST_F(LocalSourceTest, OtherHintOtherCopy) {
  tree_.File("f", "x");
  ASSERT_TRUE(Sync({{"local.sharedkeyhint", "a"}}).ok());
  ASSERT_TRUE(Sync({{"local.sharedkeyhint", "b"}}).ok());
  EXPECT_EQ(refs_.created, 2);
}

TEST_F(LocalSourceTest, DifferNoneSendsEverything) {
  tree_.File("f", "one");
  ASSERT_TRUE(Sync().ok());
  tree_.File("f", "two");  // same size, same time
  {
    auto ref = Sync();
    ASSERT_TRUE(ref.ok());
    EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "one");
  }
  auto ref = Sync({{"local.differ", "none"}});
  ASSERT_TRUE(ref.ok());
  EXPECT_EQ(FakeRefStore::Read(*ref, "f"), "two");
}

TEST_F(LocalSourceTest, TypeChangesInTheCopy) {
  tree_.Dir("a");
  tree_.File("a/x", "1");
  tree_.File("b", "2");
  tree_.Link("c", "b");
  tree_.File("h", "3");
  ASSERT_TRUE(Sync().ok());
  for (const char* name : {"a", "b", "c"})
    ASSERT_TRUE(fsutil::RemoveTree(AT_FDCWD, tree_ / name).ok());
  tree_.File("a", "file");
  tree_.Dir("b");
  tree_.File("b/y", "4");
  tree_.Hard("c", "h");
  auto ref = Sync();
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(refs_.created, 1);
  EXPECT_EQ(FakeRefStore::Read(*ref, "a"), "file");
  EXPECT_EQ(FakeRefStore::Read(*ref, "b/y"), "4");
  struct stat st;
  ASSERT_EQ(::lstat((FakeRefStore::Dir(*ref) + "/c").c_str(), &st), 0);
  EXPECT_TRUE(S_ISREG(st.st_mode));
}

TEST_F(LocalSourceTest, PatternsReachTheClient) {
  tree_.File("a.c", "");
  tree_.File("a.o", "");
  tree_.Link("l", "a.o");
  auto ref = Sync({{"local.includepattern", "[\"*.c\"]"},
                   {"local.followpaths", "[\"l\"]"},
                   {"local.excludepatterns", "[\"*.x\"]"}});
  ASSERT_TRUE(ref.ok());
  EXPECT_EQ(FakeRefStore::Read(*ref, "a.c"), "");
  EXPECT_EQ(FakeRefStore::Read(*ref, "l"), "");
}

TEST_F(LocalSourceTest, Llb6_78_MetadataTransferHasItsOwnCopy) {
  tree_.File("f", "content");
  tree_.File("wanted", "w");
  ASSERT_TRUE(Sync().ok());
  auto ref =
      Sync({{"local.metadatatransfer", "true"}, {"local.metadatatransferexclude", "[\"wanted\"]"}});
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "wanted"), "w");
  EXPECT_THAT(FakeRefStore::Read(*ref, "f"), HasSubstr("No such file"));
  EXPECT_FALSE(FakeRefStore::Read(*ref, ".fsutil-metadata").empty());
  EXPECT_EQ(refs_.record((*ref)->id()).index_key, "local.sharedKey:context::here:metadata");
}

TEST_F(LocalSourceTest, PinnedSessionFirstOthersAfter) {
  TestTree second_tree;
  second_tree.File("who", "second");
  tree_.File("who", "first");
  FakeClient second;
  second.dirs["context"] = second_tree.path();
  sessions_.sessions["s2"] = std::make_shared<FakeSession>("s2", second.Channel(), "there");
  context_.session_ids = {"s1", "s2"};
  auto pinned = Sync({{"local.session", "s2"}});
  ASSERT_TRUE(pinned.ok());
  EXPECT_EQ(FakeRefStore::Read(*pinned, "who"), "second");
  // Not there: any other.
  auto absent = Sync({{"local.session", "nobody"}});
  ASSERT_TRUE(absent.ok());
  EXPECT_EQ(FakeRefStore::Read(*absent, "who"), "first");
  // There, but without that directory: any other.
  second.dirs.clear();
  auto refused = Sync({{"local.session", "s2"}});
  ASSERT_TRUE(refused.ok());
  EXPECT_EQ(FakeRefStore::Read(*refused, "who"), "first");
  // Nobody has it: the pinned session's word.
  client_.dirs.clear();
  EXPECT_THAT(Sync({{"local.session", "s2"}}).status().message(),
              HasSubstr("no access allowed to dir \"context\""));
}

TEST_F(LocalSourceTest, ClientThatLeavesIsReplaced) {
  tree_.File("who", "first");
  FakeClient second;
  second.dirs["context"] = tree_.path();
  auto leaving = std::make_shared<FakeSession>("s2", second.Channel());
  second.on_file_sync = [&](Headers&) { leaving->Close(); };
  sessions_.sessions["s2"] = leaving;
  auto ref = Sync({{"local.session", "s2"}});
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(FakeRefStore::Read(*ref, "who"), "first");
}

TEST_F(LocalSourceTest, FailureLeavesNoChangedCopyBehind) {
  tree_.File("a", "x");
  tree_.File("b", std::string(8 << 20, 'b'));
  ASSERT_TRUE(Sync().ok());
  EXPECT_EQ(refs_.live(), 1u);
  client_.on_file_sync = [&](Headers&) { context_.Cancel(absl::CancelledError("stop")); };
  EXPECT_EQ(Sync().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(refs_.live(), 1u) << "nothing was written to it";

  FakeOpContext second;
  second.session_ids = {"s1"};
  client_.on_file_sync = nullptr;
  tree_.File("a", "changed", 0644, 2000);
  ASSERT_EQ(::chmod((tree_ / "b").c_str(), 0600), 0);
  refs_.on_rewrite = [&] { second.Cancel(absl::CancelledError("stop")); };
  EXPECT_EQ(Make({})->Snapshot(second).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(refs_.live(), 0u);
}

// What a build with nothing new gets is what an earlier one has, and nothing is written.
TEST_F(LocalSourceTest, AnUnchangedCopyIsSharedByAll) {
  tree_.Dir("d");
  tree_.File("d/f", "one");
  tree_.Link("l", "d");
  auto first = Sync();
  ASSERT_TRUE(first.ok());
  auto second = Sync();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ((*first)->id(), (*second)->id());
  EXPECT_EQ(refs_.opened, 1);
  first = second = store::RefPtr();
  auto later = Sync();
  ASSERT_TRUE(later.ok()) << later.status();
  EXPECT_EQ(refs_.opened, 1) << "nor is it opened for writing when nobody else has it";
}

// Two builds in turn whose files differ, each while the other one's are in use: each has a copy of
// its own, and no third one is made.
TEST_F(LocalSourceTest, WhoDiffersTakesAFreeCopy) {
  tree_.File("f", "one");
  auto first = Sync();
  ASSERT_TRUE(first.ok());
  for (int i = 0; i < 4; ++i) {
    tree_.File("f", absl::StrCat("now ", i), 0644, 2000 + i);
    auto next = Sync();
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ(FakeRefStore::Read(*next, "f"), absl::StrCat("now ", i));
    first = std::move(next);
  }
  EXPECT_EQ(refs_.created, 2);
}

// "differ=none": all content is sent; what it is like is seen before anything is written.
TEST_F(LocalSourceTest, ContentThatIsSentAgainIsComparedFirst) {
  tree_.Dir("d");
  tree_.File("d/f", "one");
  const std::map<std::string, std::string> all = {{"local.differ", "none"}};
  ASSERT_TRUE(Sync(all).ok());
  EXPECT_EQ(refs_.opened, 1);
  ASSERT_TRUE(Sync(all).ok());
  EXPECT_EQ(refs_.opened, 1);

  tree_.File("d/f", "two");  // same size, same time
  auto changed = Sync(all);
  ASSERT_TRUE(changed.ok());
  EXPECT_EQ(refs_.opened, 2);
  EXPECT_EQ(FakeRefStore::Read(*changed, "d/f"), "two");
  changed = store::RefPtr();

  tree_.Hard("d/g", "d/f");
  ASSERT_TRUE(Sync(all).ok());
  EXPECT_EQ(refs_.opened, 3);
  ASSERT_TRUE(fsutil::RemoveTree(AT_FDCWD, tree_ / "d/g").ok());
  tree_.File("d/g", "two");  // the same content, and no link any more
  auto apart = Sync(all);
  ASSERT_TRUE(apart.ok());
  struct stat f, g;
  ASSERT_EQ(::lstat((FakeRefStore::Dir(*apart) + "/d/f").c_str(), &f), 0);
  ASSERT_EQ(::lstat((FakeRefStore::Dir(*apart) + "/d/g").c_str(), &g), 0);
  EXPECT_NE(f.st_ino, g.st_ino);
}

}  // namespace
}  // namespace kiln::daemon
