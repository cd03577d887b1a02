#include "store/fsutil/directory_source.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <cstring>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln::fsutil {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> Paths(FileSource& source) {
  std::vector<std::string> out;
  absl::Status status = source.Walk([&](Stat* stat) {
    out.push_back(stat->path);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

std::vector<std::string> Walk(const TestTree& tree, const FilterOptions& filter) {
  auto source = DirectorySource::Create(tree.path(), filter);
  EXPECT_TRUE(source.ok()) << source.status();
  return source.ok() ? Paths(**source) : std::vector<std::string>{};
}

TEST(DirectorySource, DepthFirstInByteOrder) {
  TestTree tree;
  tree.Dir("a");
  tree.File("a/z", "1");
  tree.File("a-b", "2");
  tree.File("\xff", "3");
  tree.File("A", "4");
  EXPECT_THAT(Walk(tree, {}), ElementsAre("A", "a", "a/z", "a-b", "\xff"));
}

TEST(DirectorySource, StatsSayWhatIsThere) {
  TestTree tree;
  tree.File("f", "hello", 0640);
  tree.Hard("g", "f");
  tree.Link("l", "f");
  tree.Dir("d");
  ASSERT_EQ(::mkfifo((tree / "p").c_str(), 0600), 0);
  ASSERT_EQ(::setxattr((tree / "f").c_str(), "user.k", "v", 1, 0), 0);
  auto source = DirectorySource::Create(tree.path(), {});
  ASSERT_TRUE(source.ok());
  std::map<std::string, Stat> got;
  ASSERT_TRUE((*source)
                  ->Walk([&](Stat* stat) {
                    got[stat->path] = *stat;
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_EQ(got["f"].mode, 0640u);
  EXPECT_EQ(got["f"].size, 5);
  EXPECT_EQ(got["f"].mod_time_ns, 1000ll * 1000000000);
  EXPECT_EQ(got["f"].uid, ::getuid());
  EXPECT_THAT(got["f"].xattrs, ElementsAre(testing::Pair("user.k", "v")));
  EXPECT_TRUE(IsHardlink(got["g"]));
  EXPECT_EQ(got["g"].linkname, "f");
  EXPECT_EQ(got["g"].size, 0);
  EXPECT_EQ(got["l"].linkname, "f");
  EXPECT_EQ(got["l"].mode & kModeTypeMask, kModeSymlink);
  EXPECT_EQ(got["d"].size, 0);
  EXPECT_EQ(got["p"].mode & kModeTypeMask, kModeNamedPipe);
}

TEST(DirectorySource, SocketIsAnEmptyFile) {
  TestTree tree;
  const Fd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, (tree / "s").c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  auto source = DirectorySource::Create(tree.path(), {});
  ASSERT_TRUE(source.ok());
  uint32_t mode = 1u << 31;
  ASSERT_TRUE((*source)
                  ->Walk([&](Stat* stat) {
                    mode = stat->mode;
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_TRUE(IsRegular(mode));
  EXPECT_FALSE((*source)->Open("s").ok());
}

TEST(DirectorySource, FirstNameLeftOutPromotesTheSecond) {
  TestTree tree;
  tree.File("a", "data");
  tree.Hard("b", "a");
  tree.Hard("c", "a");
  auto source = DirectorySource::Create(tree.path(), {.exclude_patterns = {"a"}});
  ASSERT_TRUE(source.ok());
  std::vector<std::string> got;
  ASSERT_TRUE((*source)
                  ->Walk([&](Stat* stat) {
                    got.push_back(absl::StrCat(stat->path, ">", stat->linkname, ":", stat->size));
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_THAT(got, ElementsAre("b>:4", "c>b:0"));
}

TEST(DirectorySource, IncludesBringTheirParents) {
  TestTree tree;
  tree.Dir("a");
  tree.Dir("a/b");
  tree.File("a/b/keep.txt", "");
  tree.File("a/b/drop", "");
  tree.Dir("c");
  tree.File("c/keep", "");
  EXPECT_THAT(Walk(tree, {.include_patterns = {"**/*.txt"}}),
              ElementsAre("a", "a/b", "a/b/keep.txt"));
  EXPECT_THAT(Walk(tree, {.include_patterns = {"c"}}), ElementsAre("c", "c/keep"));
  EXPECT_THAT(Walk(tree, {.include_patterns = {"nothing"}}), IsEmpty());
}

TEST(DirectorySource, ExcludesWithExceptions) {
  TestTree tree;
  tree.Dir("a");
  tree.Dir("a/sub");
  tree.File("a/sub/yes", "");
  tree.File("a/no", "");
  tree.File("b", "");
  EXPECT_THAT(Walk(tree, {.exclude_patterns = {"a"}}), ElementsAre("b"));
  EXPECT_THAT(Walk(tree, {.exclude_patterns = {"a", "!a/sub/yes"}}),
              ElementsAre("a", "a/sub", "a/sub/yes", "b"));
  EXPECT_THAT(Walk(tree, {.include_patterns = {"a"}, .exclude_patterns = {"**/no"}}),
              ElementsAre("a", "a/sub", "a/sub/yes"));
}

TEST(DirectorySource, ExcludedDirectoryIsNotEvenOpened) {
  TestTree tree;
  tree.Dir("secret", 0);
  tree.File("f", "");
  EXPECT_THAT(Walk(tree, {.exclude_patterns = {"secret"}}), ElementsAre("f"));
}

TEST(DirectorySource, FollowPathsBringLinkAndTarget) {
  TestTree tree;
  tree.Dir("real");
  tree.File("real/f", "");
  tree.File("real/other", "");
  tree.Link("l", "real");
  tree.Link("abs", "/l/f");
  tree.File("unrelated", "");
  EXPECT_THAT(Walk(tree, {.follow_paths = {"abs"}}), ElementsAre("abs", "l", "real", "real/f"));
  EXPECT_THAT(Walk(tree, {.follow_paths = {"l/f"}}), ElementsAre("l", "real", "real/f"));
  EXPECT_THAT(Walk(tree, {.follow_paths = {"missing"}}), IsEmpty());
  EXPECT_THAT(Walk(tree, {.follow_paths = {"re*"}}), ElementsAre("real", "real/f", "real/other"));
}

TEST(FollowLinks, ChainsWildcardsAndTheRoot) {
  TestTree tree;
  tree.Dir("d");
  tree.Link("d/l1", "../up");
  tree.Link("d/l2", "/d/x");
  tree.Link("up", "../../../outside");
  tree.Link("loop", "loop");
  tree.Link("r", "/");
  auto get = [&](std::vector<std::string> paths) {
    auto got = FollowLinks(tree.path(), paths);
    EXPECT_TRUE(got.ok()) << got.status();
    if (!got.ok()) return std::vector<std::string>{"error"};
    return got->value_or(std::vector<std::string>{"<all>"});
  };
  EXPECT_THAT(get({"d/l1"}), ElementsAre("d/l1", "outside", "up"));
  EXPECT_THAT(get({"d/l?"}), ElementsAre("d/l?", "d/x", "outside", "up"));
  EXPECT_THAT(get({"loop"}), ElementsAre("loop"));
  EXPECT_THAT(get({"."}), ElementsAre("<all>"));
  EXPECT_THAT(get({"r"}), ElementsAre("<all>"));
  EXPECT_THAT(get({"d", "d/l9"}), ElementsAre("d"));
}

TEST(DirectorySource, NamesBadPatternAndMissingRoot) {
  TestTree tree;
  auto bad = DirectorySource::Create(tree.path(), {.exclude_patterns = {"[a"}});
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(bad.status().message(), HasSubstr("[a"));
  auto missing = DirectorySource::Create(tree / "nope", {});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr("nope"));
}

TEST(DirectorySource, SkipsWhatVanishes) {
  TestTree tree;
  tree.File("a", "");
  tree.File("b", "");
  tree.Dir("c");
  tree.File("c/x", "");
  tree.File("d", "");
  auto source = DirectorySource::Create(tree.path(), {});
  ASSERT_TRUE(source.ok());
  std::vector<std::string> got;
  ASSERT_TRUE((*source)
                  ->Walk([&](Stat* stat) {
                    got.push_back(stat->path);
                    if (stat->path == "a") return RemoveTree(AT_FDCWD, tree / "b");
                    if (stat->path == "c") return RemoveTree(AT_FDCWD, tree / "c");
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_THAT(got, ElementsAre("a", "c", "d"));
}

TEST(DirectorySource, StopsWhenCancelled) {
  TestTree tree;
  tree.File("a", "");
  CancelSource cancel;
  cancel.Cancel();
  auto source = DirectorySource::Create(tree.path(), {}, cancel.token());
  ASSERT_TRUE(source.ok());
  EXPECT_EQ((*source)->Walk([](Stat*) { return absl::OkStatus(); }).code(),
            absl::StatusCode::kCancelled);
}

TEST(SubdirectorySource, PrefixesPathsAndLinks) {
  TestTree tree;
  tree.File("f", "x");
  tree.Hard("g", "f");
  tree.Link("rel", "f");
  tree.Link("top", "/f");
  auto source = DirectorySource::Create(tree.path(), {});
  ASSERT_TRUE(source.ok());
  std::vector<SubdirectorySource::Directory> dirs(1);
  dirs[0].stat.path = "linux_amd64";
  dirs[0].stat.mode = kModeDir | 0755;
  dirs[0].source = *std::move(source);
  auto top = SubdirectorySource::Create(std::move(dirs));
  ASSERT_TRUE(top.ok());
  std::vector<std::string> got;
  ASSERT_TRUE((*top)
                  ->Walk([&](Stat* stat) {
                    got.push_back(absl::StrCat(stat->path, ">", stat->linkname));
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_THAT(got, ElementsAre("linux_amd64>", "linux_amd64/f>", "linux_amd64/g>linux_amd64/f",
                               "linux_amd64/rel>f", "linux_amd64/top>/linux_amd64/f"));
  auto fd = (*top)->Open("linux_amd64/f");
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(*ReadAll(fd->get()), "x");
  EXPECT_EQ((*top)->Open("other/f").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace kiln::fsutil
