// Sources on the real store: what the fake cannot show.
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/source/http_source.h"
#include "daemon/source/local_source.h"
#include "tests/daemon/session/fake_client.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/daemon/source/fake_op_context.h"
#include "tests/daemon/source/test_http_server.h"
#include "tests/store/fsutil/test_tree.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::daemon {
namespace {

using fsutil::TestTree;

class StoredSourceTest : public store::RefStoreTest {
 protected:
  void SetUp() override {
    RefStoreTest::SetUp();
    client_.dirs["context"] = tree_.path();
    sessions_.sessions["s1"] = std::make_shared<FakeSession>("s1", client_.Channel(), "here");
  }
  store::RefPtr Sync() {
    LocalSource source(store_.get(), &sessions_);
    return Sync(source);
  }
  store::RefPtr Sync(LocalSource& source) {
    FakeOpContext job;
    job.session_ids = {"s1"};
    return store::Must(store::Must(source.Resolve({"local://context", {}}))->Snapshot(job));
  }
  std::string Digest(const store::RefPtr& ref) {
    return store::Must(store_->Checksum(ref, "/", {}, {})).ToString();
  }
  // The same tree by a session that was never seen before, so that nothing is reused.
  std::string FreshDigest() {
    auto& session = sessions_.sessions["s1"];
    const SessionPtr old = session;
    session =
        std::make_shared<FakeSession>("s1", client_.Channel(), absl::StrCat("elsewhere", ++fresh_));
    const std::string digest = Digest(Sync());
    session = old;
    return digest;
  }

  TestTree tree_;
  FakeClient client_;
  FakeSessions sessions_;
  int fresh_ = 0;
};

TEST_F(StoredSourceTest, Llb6_99_IncrementalSyncHasTheDigestOfAFreshOne) {
  tree_.Dir("d");
  tree_.File("d/f", "one");
  tree_.Hard("d/g", "d/f");
  tree_.File("big", std::string(1 << 20, 'b'));
  tree_.File("gone", "x");
  tree_.Dir("becomes-file");
  tree_.File("becomes-file/x", "y");
  tree_.Link("link", "d/f");
  std::string last = Digest(Sync());
  EXPECT_EQ(last, FreshDigest());
  const std::vector<std::function<void()>> changes = {
      [&] { tree_.File("d/f", "two", 0644, 2000); },
      [&] { ASSERT_TRUE(fsutil::RemoveTree(AT_FDCWD, tree_ / "gone").ok()); },
      [&] {
        ASSERT_TRUE(fsutil::RemoveTree(AT_FDCWD, tree_ / "becomes-file").ok());
        tree_.File("becomes-file", "now");
      },
      [&] {
        ASSERT_TRUE(fsutil::RemoveTree(AT_FDCWD, tree_ / "link").ok());
        tree_.Dir("link");
        tree_.File("link/deep", "d");
      },
      [&] { ASSERT_TRUE(fsutil::RemoveTree(AT_FDCWD, tree_ / "d").ok()); },
      [&] { ASSERT_EQ(::chmod((tree_ / "big").c_str(), 0755), 0); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    changes[i]();
    const std::string now = Digest(Sync());
    EXPECT_NE(now, last) << i;
    EXPECT_EQ(now, FreshDigest()) << i;
    last = now;
  }
}

TEST_F(StoredSourceTest, CopyIsReusedAfterARestart) {
  tree_.File("f", "one");
  const std::string before = Digest(Sync());
  Restart();
  const int calls = client_.file_sync_calls();
  EXPECT_EQ(Digest(Sync()), before);
  EXPECT_EQ(client_.file_sync_calls(), calls + 1);
  store_->Drain();
  EXPECT_EQ(Folders().size(), 1u);
}

TEST_F(StoredSourceTest, CopyThatABuildUsesIsLeftAlone) {
  tree_.File("f", "one");
  const store::RefPtr first = Sync();
  const std::string digest = Digest(first);
  // Used as a parent, as a file op on the context would.
  auto child = store::Must(store_->New(first, {}));
  store::Must(child->writer().WriteFile("/made", "m", {}));
  const store::RefPtr result = store::Must(child->Commit());
  tree_.File("f", "two", 0644, 2000);
  const store::RefPtr second = Sync();
  EXPECT_EQ(Digest(first), digest);
  EXPECT_NE(Digest(second), digest);
  EXPECT_EQ(Show(result), "f=one made=m ");
  EXPECT_EQ(Show(second), "f=two ");
}

TEST_F(StoredSourceTest, ACopyThatStartsFromAnotherIsAsAFreshOne) {
  tree_.Dir("d", 0750);
  tree_.File("d/f", "one");
  tree_.Hard("d/g", "d/f");
  tree_.File("kept", "k");
  tree_.File("gone", "x");
  tree_.Link("link", "kept");
  tree_.Dir("e");
  ASSERT_EQ(::mkfifo((tree_ / "e/pipe").c_str(), 0600), 0);
  ASSERT_EQ(::link((tree_ / "link").c_str(), (tree_ / "e/same").c_str()), 0);
  ASSERT_EQ(::setxattr((tree_ / "e").c_str(), "user.kind", "x", 1, 0), 0);
  LocalSource source(store_.get(), &sessions_);
  store::RefPtr first = Sync(source);
  tree_.File("added", "a");
  ASSERT_TRUE(fsutil::RemoveTree(AT_FDCWD, tree_ / "gone").ok());
  const store::RefPtr second = Sync(source);
  EXPECT_EQ(Digest(second), FreshDigest());
  EXPECT_EQ(Show(first), "d/ d/f=one d/g=one e/ e/pipe| e/same->kept gone=x kept=k link->kept ");
  const std::string shown = Show(second);
  const auto inode = [](const store::RefPtr& ref, const char* path) {
    return store::Must(store::TreeReader(store::Must(ref->Materialize({}))).Lstat(path)).st.st_ino;
  };
  EXPECT_EQ(inode(first, "/kept"), inode(second, "/kept"));
  EXPECT_EQ(inode(second, "/d/f"), inode(second, "/d/g"));
  EXPECT_EQ(Sync(source)->id(), second->id()) << "times, owners and links are those of the client";

  // The older copy is free now, and changes; what it shares with the other one does not.
  first.reset();
  store_->Drain();
  ASSERT_EQ(::chmod((tree_ / "kept").c_str(), 0600), 0);
  tree_.File("d/f", "two", 0644, 2000);
  const store::RefPtr third = Sync(source);
  EXPECT_EQ(Folders().size(), 3u);  // and that of the fresh one
  EXPECT_EQ(Digest(third), FreshDigest());
  EXPECT_EQ(Show(second), shown);
  EXPECT_NE(inode(third, "/kept"), inode(second, "/kept"));
  const store::TreeReader reader(store::Must(second->Materialize({})));
  EXPECT_EQ(store::Must(reader.Lstat("/kept")).st.st_mode & 07777, 0644u);
}

TEST_F(StoredSourceTest, HostileXattrsDoNotReachTheLayer) {
  // Sent by a client that does not filter: an opaque mark would hide what lies below.
  class Marked : public fsutil::FileSource {
   public:
    absl::Status Walk(const std::function<absl::Status(fsutil::Stat*)>& visit) override {
      fsutil::Stat stat;
      stat.path = "d";
      stat.mode = fsutil::kModeDir | 0755;
      stat.xattrs = {{"trusted.overlay.opaque", "y"}, {"user.fine", "1"}};
      return visit(&stat);
    }
    absl::StatusOr<Fd> Open(const std::string& path) override { return absl::NotFoundError(path); }
  };
  Marked marked;
  client_.custom_source = &marked;
  const store::RefPtr ref = Sync();
  store::TreeReader reader(store::Must(ref->Materialize({})));
  const std::string path = reader.HostPath(store::Must(reader.Lstat("/d")), "/d");
  EXPECT_LT(::getxattr(path.c_str(), "trusted.overlay.opaque", nullptr, 0), 0);
  EXPECT_EQ(::getxattr(path.c_str(), "user.fine", nullptr, 0), 1);
}

TEST_F(StoredSourceTest, DownloadIsFoundAgainAfterARestart) {
  TestHttpServer server([](const TestHttpRequest&) {
    return TestHttpServer::Answer("200 OK", {"ETag: \"v1\""}, "body");
  });
  auto get = [&] {
    HttpSource source(store_.get(), &sessions_, "kiln/test");
    FakeOpContext job;
    auto instance = store::Must(source.Resolve({server.Url("/f"), {}}));
    return Show(store::Must(instance->Snapshot(job)));
  };
  EXPECT_EQ(get(), "f=body ");
  Restart();
  server.Forget();
  EXPECT_EQ(get(), "f=body ");
  ASSERT_EQ(server.requests().size(), 1u);
  EXPECT_EQ(server.requests()[0].method, "HEAD");
}

}  // namespace
}  // namespace kiln::daemon
