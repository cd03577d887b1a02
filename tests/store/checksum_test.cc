#include "store/checksum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "store/file_digest.h"
#include "store/tree_writer.h"
#include "tests/store/temp_tree.h"

namespace kiln::store {
namespace {

using ::testing::HasSubstr;

// Vectors of BuildKit's contenthash: owner 0:0, files 0644, directories 0755.
constexpr char kFileData0[] = "cd8e75bca50f2d695f220d0cb0997d8ead387e4f926e8669a92d7f104cc9885b";
constexpr char kDirD0[] = "d47454417d2c554067fbefe5f5719edc49f3cfe969c36b62e34a187a4da0cc9a";
constexpr char kDirD0NoGhi[] = "555ffa3028630d97ba37832b749eda85ab676fd64ffb629fbf0f4ec8c1e3bff1";
constexpr char kWildcardD[] = "6b612ad5c13159112ae26357ef7bd34df29916941ba40ec2ce38dfb70c6c60c3";
constexpr char kIncludeFoo[] = "aa7448215bbf5b837b35ce64467857d8b9747965573d14d4b31b370586370971";

class Checksums : public ::testing::Test {
 protected:
  Checksums() : layer_(temp_.Dir("1/fs")) {}

  absl::StatusOr<Digest> Sum(const std::string& path, const ChecksumOptions& options = {}) {
    return store_.Checksum({layer_}, path, options, CancelToken());
  }
  std::string Hex(const std::string& path, const ChecksumOptions& options = {}) {
    const auto digest = Sum(path, options);
    return digest.ok() ? digest->hex() : digest.status().ToString();
  }
  static ChecksumOptions Follow() {
    ChecksumOptions options;
    options.follow = true;
    return options;
  }
  static ChecksumOptions Wildcard() {
    ChecksumOptions options;
    options.wildcard = true;
    return options;
  }
  void PutD0(const std::string& dir, bool ghi = true) {
    PutDir(dir);
    PutFile(dir + "/abc", "data0");
    PutLink(dir + "/def", "abc");
    if (ghi) PutLink(dir + "/ghi", "nosuchfile");
  }

  TempDir temp_;
  const std::string layer_;
  ChecksumStore store_;
};

TEST_F(Checksums, Llb6_95_VectorsOfScannedTrees) {
  PutFile(layer_ + "/foo", "data0");
  PutD0(layer_ + "/x/d0");
  PutD0(layer_ + "/d1", false);
  PutFile(layer_ + "/prefix/a/b/c/foo/bar", "abc");
  PutFile(layer_ + "/prefix/a/b/other", "left out");
  PutFile(layer_ + "/prefix/a/d/e", "left out");
  EXPECT_EQ(Hex("foo"), kFileData0);
  EXPECT_EQ(Hex("/x/d0"), kDirD0);
  EXPECT_EQ(Hex("/d1"), kDirD0NoGhi);
  EXPECT_EQ(Hex("x/d?", Wildcard()), kWildcardD);
  ChecksumOptions include;
  include.include_patterns = {"**/foo/**"};
  EXPECT_EQ(Hex("prefix/a", include), kIncludeFoo);
}

TEST_F(Checksums, Llb6_95_VectorsOfWrittenTrees) {
  auto recorder = store_.Record(layer_);
  ASSERT_TRUE(recorder.ok());
  {
    const auto writer = NewTreeWriter({}, layer_, false, recorder->get());
    ASSERT_TRUE(writer->MakeDir("/x", {}).ok());
    ASSERT_TRUE(writer->MakeDir("/x/d0", {}).ok());
    ASSERT_TRUE(writer->WriteFile("/x/d0/abc", "data0", {}).ok());
    ASSERT_TRUE(writer->MakeSymlink("/x/d0/def", "abc", {}).ok());
    ASSERT_TRUE(writer->MakeSymlink("/x/d0/ghi", "nosuchfile", {}).ok());
    auto file = writer->CreateFile("/foo", 5, {});
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Append("da").ok());
    ASSERT_TRUE((*file)->Append("ta0").ok());
    ASSERT_TRUE((*file)->Close().ok());
  }
  (*recorder)->UseSynchronizedRoot();
  ASSERT_TRUE((*recorder)->Commit().ok());
  EXPECT_EQ(Hex("/foo"), kFileData0);
  EXPECT_EQ(Hex("/x/d0"), kDirD0);
  EXPECT_EQ(Hex("/x/d?", Wildcard()), kWildcardD);
  EXPECT_EQ(store_.files_hashed(), 0);  // all of it was hashed while it was written
  // The header of a synchronised root is the digest of nothing.
  const absl::string_view nul("\0", 1);
  Sha256 root;
  root.Update(nul).Update(Digest::Of("").ToString());
  root.Update(nul).Update("foo").Update(absl::StrCat("sha256:", kFileData0));
  root.Update(nul).Update("x").Update(Hex("/x").insert(0, "sha256:"));
  EXPECT_EQ(Hex("/"), root.Finish().hex());
}

TEST_F(Checksums, Llb6_96_DirectoryEqualsSameTreeAsRoot) {
  const std::string other = temp_.Dir("2/fs");
  PutD0(layer_ + "/deep/down");
  PutD0(other);
  const auto root = store_.Checksum({other}, "/", {}, CancelToken());
  ASSERT_TRUE(root.ok());
  EXPECT_EQ(Hex("/deep/down"), root->hex());
}

TEST_F(Checksums, Llb6_97_LinksResolveInsideTheRoot) {
  PutFile(layer_ + "/a/b/file", "data0");
  PutLink(layer_ + "/rel", "a/b");
  PutLink(layer_ + "/abs", "/a/b");
  PutLink(layer_ + "/a/out", "../../../../a/b");
  PutLink(layer_ + "/loop", "loop");
  const std::string want = Hex("/a/b");
  EXPECT_EQ(Hex("/a/b/file"), kFileData0);
  for (const char* path : {"/rel/file", "/abs/file", "/a/out/file", "/../../a/b/file"})
    EXPECT_EQ(Hex(path), kFileData0) << path;
  for (const char* path : {"/rel", "/abs", "/a/out"}) {
    EXPECT_EQ(Hex(path, Follow()), want) << path;
    EXPECT_NE(Hex(path), want) << path;
  }
  EXPECT_THAT(Hex("/loop/x"), HasSubstr("too many links"));
  EXPECT_THAT(Hex("/loop", Follow()), HasSubstr("too many links"));
}

TEST_F(Checksums, Llb6_98_BrokenLinks) {
  PutFile(layer_ + "/d/f", "x");
  const std::string before = Hex("/d");
  PutLink(layer_ + "/d/broken", "nowhere");
  store_.Forget(layer_);
  std::filesystem::remove(ChecksumStore::FileFor(layer_));
  EXPECT_NE(Hex("/d"), before);
  EXPECT_TRUE(absl::IsNotFound(Sum("/d/broken", Follow()).status()));
  EXPECT_TRUE(Sum("/d/broken").ok());
}

// After any change the incremental answer is that of a store which knows nothing.
TEST_F(Checksums, Llb6_99_IncrementalEqualsFresh) {
  const auto change = [&](const std::function<absl::Status(TreeWriter&)>& work) {
    auto recorder = store_.Record(layer_);
    ASSERT_TRUE(recorder.ok());
    const auto writer = NewTreeWriter({}, layer_, false, recorder->get());
    const absl::Status status = work(*writer);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE((*recorder)->Commit().ok());
    const std::string ours = Hex("/");
    const std::string saved = Slurp(ChecksumStore::FileFor(layer_));
    std::filesystem::remove(ChecksumStore::FileFor(layer_));
    ChecksumStore fresh;
    const auto want = fresh.Checksum({layer_}, "/", {}, CancelToken());
    ASSERT_TRUE(want.ok());
    EXPECT_EQ(ours, want->hex());
  };
  std::string last = "none";
  const auto differs = [&] {
    const std::string now = Hex("/");
    EXPECT_NE(now, last);
    last = now;
  };
  change([](TreeWriter& w) { return w.MakeDir("/d", {}); });
  differs();
  change([](TreeWriter& w) { return w.WriteFile("/d/f", "one", {}); });
  differs();
  change([](TreeWriter& w) { return w.WriteFile("/d/f", "two", {}); });
  differs();
  change([](TreeWriter& w) {
    Attributes mode;
    mode.mode = 0600;
    return w.SetAttributes("/d/f", mode);
  });
  differs();
  change([](TreeWriter& w) { return w.WriteFile("/top", "x", {}); });
  differs();
  change([](TreeWriter& w) { return w.SetXattr("/d", "user.k", "v"); });
  differs();
  change([](TreeWriter& w) { return w.Remove("/d/f"); });
  differs();
  change([](TreeWriter& w) {
    auto status = w.Remove("/d");
    if (status.ok()) status = w.WriteFile("/d", "a file now", {});
    return status;
  });
  differs();
  change([](TreeWriter& w) { return w.Remove("/d"); });
  differs();
}

TEST_F(Checksums, AnswersAreKnownUntilTheLayerChanges) {
  PutD0(layer_ + "/d");
  const std::string top = temp_.Dir("2/fs");
  EXPECT_EQ(store_.Known({layer_}, "/d", {}), std::nullopt);
  const Digest digest = *Sum("/d");
  EXPECT_EQ(store_.Known({layer_}, "/d", {}), digest);
  // Other requests, and other trees.
  EXPECT_EQ(store_.Known({layer_}, "/d/", {}), std::nullopt);
  EXPECT_EQ(store_.Known({layer_}, "/d", Follow()), std::nullopt);
  EXPECT_EQ(store_.Known({layer_}, "/d", Wildcard()), std::nullopt);
  ChecksumOptions one, two;
  one.include_patterns = {"abc"};
  two.exclude_patterns = {"abc"};
  EXPECT_NE(*Sum("/d", one), *Sum("/d", two));
  EXPECT_NE(store_.Known({layer_}, "/d", one), store_.Known({layer_}, "/d", two));
  EXPECT_EQ(store_.Known({layer_, top}, "/d", {}), std::nullopt);
  EXPECT_EQ(store_.Known({top, layer_}, "/d", {}), std::nullopt);
  EXPECT_EQ(store_.Known({}, "/d", {}), std::nullopt);

  auto recorder = store_.Record(layer_);
  ASSERT_TRUE(recorder.ok());
  EXPECT_EQ(store_.Known({layer_}, "/d", {}), std::nullopt);
  const auto writer = NewTreeWriter({}, layer_, false, recorder->get());
  ASSERT_TRUE(writer->WriteFile("/d/abc", "other", {}).ok());
  ASSERT_TRUE((*recorder)->Commit().ok());
  const Digest changed = *Sum("/d");
  EXPECT_NE(changed, digest);
  EXPECT_EQ(store_.Known({layer_}, "/d", {}), changed);
  store_.Forget(layer_);
  EXPECT_EQ(store_.Known({layer_}, "/d", {}), std::nullopt);
}

TEST_F(Checksums, Llb6_100_HardlinksHashAlike) {
  auto recorder = store_.Record(layer_);
  ASSERT_TRUE(recorder.ok());
  const auto writer = NewTreeWriter({}, layer_, false, recorder->get());
  ASSERT_TRUE(writer->WriteFile("/b", "data0", {}).ok());
  ASSERT_TRUE(writer->MakeHardlink("/a", "/b").ok());
  ASSERT_TRUE(writer->MakeHardlink("/c", "/a").ok());
  ASSERT_TRUE((*recorder)->Commit().ok());
  for (const char* path : {"/a", "/b", "/c"}) EXPECT_EQ(Hex(path), kFileData0);
  EXPECT_EQ(store_.files_hashed(), 0);
}

TEST_F(Checksums, Llb6_101_ConcurrentRequestsReadOnce) {
  for (int i = 0; i < 40; ++i)
    PutFile(absl::StrCat(layer_, "/d", i % 4, "/f", i), std::string(100000, 'a'));
  std::vector<std::thread> threads;
  std::vector<std::string> sums(8);
  for (size_t i = 0; i < sums.size(); ++i)
    threads.emplace_back([&, i] { sums[i] = Hex(i % 2 == 0 ? "/" : absl::StrCat("/d", i / 2)); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_.files_hashed(), 40);
  EXPECT_EQ(sums[0], sums[2]);
  EXPECT_EQ(sums[1], Hex("/d0"));
}

TEST_F(Checksums, Llb6_102_SurvivesRestart) {
  PutD0(layer_ + "/d");
  const std::string before = Hex("/");
  EXPECT_EQ(store_.files_hashed(), 1);
  // Content behind its back: a store that read again would notice.
  PutFile(layer_ + "/d/abc", "other");
  ChecksumStore next;
  EXPECT_EQ(next.Checksum({layer_}, "/", {}, CancelToken())->hex(), before);
  EXPECT_EQ(next.files_hashed(), 0);
}

TEST_F(Checksums, Llb6_103_ExtendedAttributes) {
  PutFile(layer_ + "/f", "data0");
  DigestedMetadata metadata;
  metadata.st.st_mode = S_IFREG | 0644;
  const std::string plain = DigestHeader(metadata);
  metadata.xattrs = {{"security.selinux", "x"}, {"system.posix_acl_access", "x"}};
  EXPECT_EQ(DigestHeader(metadata), plain);
  metadata.xattrs = {{"security.capability", "c"}, {"user.k", "v"}};
  EXPECT_EQ(DigestHeader(metadata), plain + "security.capabilitycuser.kv");
  ASSERT_EQ(::lsetxattr((layer_ + "/f").c_str(), "user.k", "v", 1, 0), 0);
  EXPECT_NE(Hex("/f"), kFileData0);
}

TEST_F(Checksums, WhatCountsAndWhatNot) {
  PutFile(layer_ + "/f", "data0");
  const auto fresh = [&] {
    store_.Forget(layer_);
    std::filesystem::remove(ChecksumStore::FileFor(layer_));
    return Hex("/f");
  };
  const std::string base = fresh();
  const struct timespec times[2] = {{1, 0}, {1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (layer_ + "/f").c_str(), times, 0), 0);
  EXPECT_EQ(fresh(), base);
  ASSERT_EQ(::chmod((layer_ + "/f").c_str(), 0600), 0);
  EXPECT_NE(fresh(), base);
  ASSERT_EQ(::chmod((layer_ + "/f").c_str(), 0644), 0);
  std::filesystem::rename(layer_ + "/f", layer_ + "/g");
  EXPECT_EQ(Hex("/g"), base);  // the name of what is selected does not count
}

TEST_F(Checksums, MissingPaths) {
  PutFile(layer_ + "/f", "x");
  const auto missing = Sum("no/such");
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_EQ(missing.status().message(), "\"/no/such\": not found");
  ChecksumOptions exclude;
  exclude.exclude_patterns = {"x"};
  EXPECT_TRUE(absl::IsNotFound(Sum("/no", exclude).status()));
  EXPECT_EQ(Hex("/no*", Wildcard()), Digest::Of("").hex());
  EXPECT_EQ(store_.Checksum({}, "/", {}, CancelToken())->hex(), Digest::Of("").hex());
  const auto nil = store_.Checksum({}, "/x", {}, CancelToken());
  EXPECT_EQ(nil.status().message(), "/x: no such file or directory");
}

TEST_F(Checksums, WildcardSelection) {
  PutD0(layer_ + "/x/d0");
  PutFile(layer_ + "/x/f.txt", "data0");
  PutFile(layer_ + "/y/f.txt", "other");
  PutLink(layer_ + "/x/l.txt", "f.txt");
  PutLink(layer_ + "/z", "x");
  const absl::string_view nul("\0", 1);
  const auto digest = [&](const std::string& path, bool follow = false) {
    return absl::StrCat("sha256:", Hex(path, follow ? Follow() : ChecksumOptions()));
  };
  // Links in front of the wildcard resolve, names count from there.
  EXPECT_EQ(Hex("/z/d?", Wildcard()), Hex("/x/d?", Wildcard()));
  EXPECT_EQ(Hex("/*/f.txt", Wildcard()), Sha256()
                                             .Update(nul)
                                             .Update("x")
                                             .Update(nul)
                                             .Update("f.txt")
                                             .Update(digest("/x/f.txt"))
                                             .Update(nul)
                                             .Update("y")
                                             .Update(nul)
                                             .Update("f.txt")
                                             .Update(digest("/y/f.txt"))
                                             .Finish()
                                             .hex());
  ChecksumOptions follow = Wildcard();
  follow.follow = true;
  EXPECT_EQ(Hex("/x/l*", follow),
            Sha256().Update(nul).Update("l.txt").Update(digest("/x/f.txt")).Finish().hex());
  EXPECT_NE(Hex("/x/l*", Wildcard()), Hex("/x/l*", follow));
  EXPECT_TRUE(absl::IsInvalidArgument(Sum("/x/[", Wildcard()).status()));
}

TEST_F(Checksums, Llb6_53_OnlyWhatPatternsSelectCounts) {
  PutFile(layer_ + "/d/a.c", "a");
  PutFile(layer_ + "/d/b.h", "b");
  PutFile(layer_ + "/d/sub/c.c", "c");
  ChecksumOptions options;
  options.include_patterns = {"**/*.c"};
  const auto fresh = [&] {
    ChecksumStore other;
    std::filesystem::remove(ChecksumStore::FileFor(layer_));
    return other.Checksum({layer_}, "/d", options, CancelToken())->hex();
  };
  const std::string before = fresh();
  PutFile(layer_ + "/d/b.h", "changed");
  PutFile(layer_ + "/d/other/x.h", "new");
  EXPECT_EQ(fresh(), before);
  PutFile(layer_ + "/d/a.c", "a", 0600);
  EXPECT_NE(fresh(), before);
  options.exclude_patterns = {"a.c"};
  const std::string without = fresh();
  PutFile(layer_ + "/d/a.c", "anything");
  EXPECT_EQ(fresh(), without);
}

TEST_F(Checksums, TrailingSlashLeavesOutTheHeader) {
  PutFile(layer_ + "/d/a", "a");
  ChecksumOptions options;
  options.exclude_patterns = {"nothing"};
  const auto with_mode = [&](const std::string& path, mode_t mode) {
    PutDir(layer_ + "/d", mode);
    ChecksumStore other;
    std::filesystem::remove(ChecksumStore::FileFor(layer_));
    return other.Checksum({layer_}, path, options, CancelToken())->hex();
  };
  EXPECT_NE(with_mode("/d", 0755), with_mode("/d", 0700));
  EXPECT_EQ(with_mode("/d/", 0755), with_mode("/d/", 0700));
}

TEST_F(Checksums, RequiredPaths) {
  PutFile(layer_ + "/d/a", "a");
  ChecksumOptions options;
  options.include_patterns = {"a", "b"};
  options.required_paths = {"/d/a"};
  EXPECT_TRUE(Sum("/d", options).ok());
  options.required_paths = {"/d/a", "/d/b"};
  const auto missing = Sum("/d", options);
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_EQ(missing.status().message(), "\"/d/b\": not found");
}

TEST_F(Checksums, LowerLayersAreInherited) {
  PutFile(layer_ + "/lib/a", std::string(1000, 'a'));
  PutFile(layer_ + "/lib/sub/b", "b");
  PutFile(layer_ + "/etc/c", "c");
  Hex("/");
  EXPECT_EQ(store_.files_hashed(), 3);
  const std::string upper = temp_.Dir("2/fs");
  PutFile(upper + "/etc/d", "d");
  const auto both = store_.Checksum({layer_, upper}, "/", {}, CancelToken());
  EXPECT_EQ(store_.files_hashed(), 4);
  EXPECT_EQ(store_.Checksum({layer_, upper}, "/lib", {}, CancelToken())->hex(), Hex("/lib"));
  // The same upper layer on something else is another tree.
  const std::string other = temp_.Dir("3/fs");
  PutFile(other + "/etc/e", "e");
  const auto elsewhere = store_.Checksum({other, upper}, "/etc", {}, CancelToken());
  EXPECT_NE(elsewhere->hex(), store_.Checksum({layer_, upper}, "/etc", {}, CancelToken())->hex());
}

TEST_F(Checksums, CancelledRequestsEnd) {
  PutFile(layer_ + "/f", "x");
  CancelSource source;
  source.Cancel();
  EXPECT_TRUE(absl::IsCancelled(store_.Checksum({layer_}, "/", {}, source.token()).status()));
  EXPECT_TRUE(Sum("/").ok());  // and leave nothing behind
}

TEST_F(Checksums, ForgottenTablesComeBack) {
  ChecksumStore small(4);
  std::vector<std::string> layers;
  for (int i = 0; i < 100; ++i) {
    layers.push_back(temp_.Dir(absl::StrCat("many", i, "/fs")));
    PutFile(layers.back() + "/f", absl::StrCat(i));
    ASSERT_TRUE(small.Checksum({layers.back()}, "/", {}, CancelToken()).ok());
  }
  for (const std::string& layer : layers)
    ASSERT_TRUE(small.Checksum({layer}, "/", {}, CancelToken()).ok());
  EXPECT_EQ(small.files_hashed(), 100);
}

}  // namespace
}  // namespace kiln::store
