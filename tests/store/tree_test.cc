#include "store/tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/base/fd.h"
#include "store/tree_writer.h"
#include "tests/store/temp_tree.h"

namespace kiln::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> NamesOf(const absl::StatusOr<std::vector<Entry>>& entries) {
  std::vector<std::string> out;
  if (!entries.ok()) return {entries.status().ToString()};
  for (const Entry& entry : *entries) out.push_back(entry.name);
  return out;
}

std::string Contents(const TreeReader& tree, const std::string& path) {
  auto fd = tree.Open(path);
  if (!fd.ok()) return fd.status().ToString();
  return ReadAll(fd->get()).value();
}

TEST(Paths, Clean) {
  EXPECT_EQ(CleanPath(""), "/");
  EXPECT_EQ(CleanPath("a//b/./c/"), "/a/b/c");
  EXPECT_EQ(CleanPath("/../a/../../b"), "/b");
  EXPECT_EQ(JoinPath("/a", "../../x"), "/x");
  EXPECT_EQ(SplitPath("/a/b"), std::make_pair(std::string("/a"), std::string("b")));
  EXPECT_EQ(SplitPath("/a"), std::make_pair(std::string("/"), std::string("a")));
  EXPECT_TRUE(PathIsWithin("/a/b", "/a"));
  EXPECT_TRUE(PathIsWithin("/a", "/"));
  EXPECT_FALSE(PathIsWithin("/ab", "/a"));
}

TEST(TreeReader, UpperWins) {
  TempDir temp;
  const std::string low = temp.Dir("low"), up = temp.Dir("up");
  PutFile(low + "/d/a", "low a");
  PutFile(low + "/d/b", "low b");
  PutFile(up + "/d/b", "up b");
  PutFile(up + "/d/c", "up c");
  PutFile(low + "/f", "file");
  PutFile(up + "/f/x", "directory now");
  PutFile(low + "/g/x", "x");
  PutFile(up + "/g", "file now");
  const TreeReader tree({low, up});
  EXPECT_THAT(NamesOf(tree.List("/")), ElementsAre("d", "f", "g"));
  EXPECT_THAT(NamesOf(tree.List("/d")), ElementsAre("a", "b", "c"));
  EXPECT_THAT(NamesOf(tree.List("/f")), ElementsAre("x"));
  EXPECT_EQ(Contents(tree, "/d/a"), "low a");
  EXPECT_EQ(Contents(tree, "/d/b"), "up b");
  EXPECT_TRUE(absl::IsNotFound(tree.Lstat("/g/x").status()));
  EXPECT_EQ(tree.Lstat("/g/x").status().message(), "/g/x: no such file or directory");
  EXPECT_TRUE(absl::IsFailedPrecondition(tree.List("/g").status()));
  EXPECT_EQ(tree.Lstat("/d")->layer, 1);
  EXPECT_EQ(tree.Lstat("/d/a")->layer, 0);
}

TEST(TreeReader, EmptyTree) {
  const TreeReader tree({});
  EXPECT_TRUE(S_ISDIR(tree.Lstat("/")->st.st_mode));
  EXPECT_THAT(NamesOf(tree.List("/")), ElementsAre());
  EXPECT_TRUE(absl::IsNotFound(tree.Lstat("/x").status()));
}

class Resolving : public ::testing::Test {
 protected:
  Resolving() {
    root_ = temp_.Dir("root");
    PutFile(root_ + "/a/b/file", "inside");
    PutFile(temp_.path() + "/secret", "outside");
    PutLink(root_ + "/abs", "/a/b");
    PutLink(root_ + "/a/up", "../../../a/b/file");
    PutLink(root_ + "/escape", "../secret");
    PutLink(root_ + "/escape2", temp_.path() + "/secret");
    PutLink(root_ + "/loop", "loop");
    PutLink(root_ + "/ping", "pong");
    PutLink(root_ + "/pong", "ping");
    PutLink(root_ + "/broken", "/nowhere/x");
    PutLink(root_ + "/chain", "abs/../up");
  }
  TempDir temp_;
  std::string root_;
};

TEST_F(Resolving, StaysInside) {
  const TreeReader tree({root_});
  EXPECT_EQ(tree.Resolve("/abs/file", false).value(), "/a/b/file");
  EXPECT_EQ(tree.Resolve("/abs", false).value(), "/abs");
  EXPECT_EQ(tree.Resolve("/abs", true).value(), "/a/b");
  EXPECT_EQ(tree.Resolve("a/up", true).value(), "/a/b/file");
  EXPECT_EQ(tree.Resolve("/chain", true).value(), "/a/b/file");
  EXPECT_EQ(tree.Resolve("../../a", true).value(), "/a");
  // Both would be /secret of the tree, which it has not.
  EXPECT_TRUE(absl::IsNotFound(tree.Resolve("/escape", true).status()));
  EXPECT_TRUE(absl::IsNotFound(tree.Resolve("/escape2", true).status()));
}

TEST_F(Resolving, LoopsEnd) {
  const TreeReader tree({root_});
  for (const char* path : {"/loop", "/ping", "/ping/x"}) {
    const auto resolved = tree.Resolve(path, true);
    EXPECT_TRUE(absl::IsInvalidArgument(resolved.status())) << path;
    EXPECT_THAT(resolved.status().message(), HasSubstr("too many links"));
  }
  EXPECT_EQ(tree.Resolve("/loop", false).value(), "/loop");
}

TEST_F(Resolving, Missing) {
  const TreeReader tree({root_});
  EXPECT_TRUE(absl::IsNotFound(tree.Resolve("/a/x", true).status()));
  EXPECT_EQ(tree.Resolve("/abs/x", true, true).value(), "/a/b/x");
  EXPECT_TRUE(absl::IsNotFound(tree.Resolve("/abs/x/y", true, true).status()));
  EXPECT_EQ(tree.ResolveMissing("/abs/x/y").value(), "/a/b/x/y");
  EXPECT_EQ(tree.ResolveMissing("/broken/z").value(), "/nowhere/x/z");
  EXPECT_TRUE(absl::IsNotFound(tree.Resolve("/a/b/file/x", true).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(tree.Lstat(std::string("/a\0b", 4)).status()));
}

TEST_F(Resolving, OpenRefusesLinks) {
  const TreeReader tree({root_});
  EXPECT_TRUE(absl::IsFailedPrecondition(tree.Open("/escape").status()));
  EXPECT_TRUE(absl::IsNotFound(tree.Open("/abs/file").status()));
}

TEST(TreeReader, WalkOrderAndPruning) {
  TempDir temp;
  const std::string root = temp.Dir("root");
  PutFile(root + "/a/x", "");
  PutFile(root + "/a.txt", "");
  PutFile(root + "/b/y", "");
  const TreeReader tree({root});
  std::vector<std::string> seen;
  ASSERT_TRUE(tree.Walk("/",
                        [&](const std::string& path, const Entry&) -> absl::StatusOr<bool> {
                          seen.push_back(path);
                          return path != "/b";
                        })
                  .ok());
  EXPECT_THAT(seen, ElementsAre("/a", "/a/x", "/a.txt", "/b"));
}

// Without lower layers nothing needs privileges.
class PlainWriter : public ::testing::Test {
 protected:
  PlainWriter() : upper_(temp_.Dir("upper")) {
    writer_ = NewTreeWriter({}, upper_, false, nullptr);
  }
  TempDir temp_;
  std::string upper_;
  std::unique_ptr<TreeWriter> writer_;
};

TEST_F(PlainWriter, MakesEverything) {
  Attributes dir;
  dir.mode = 0711;
  ASSERT_TRUE(writer_->MakeDir("/d", dir).ok());
  Attributes file;
  file.mode = 04755;
  file.mtime = absl::FromUnixSeconds(12345);
  ASSERT_TRUE(writer_->WriteFile("/d/f", "hello", file).ok());
  ASSERT_TRUE(writer_->MakeSymlink("/d/l", "../anywhere", {}).ok());
  ASSERT_TRUE(writer_->MakeNode("/d/fifo", S_IFIFO | 0600, 0, {}).ok());
  ASSERT_TRUE(writer_->MakeHardlink("/d/h", "/d/f").ok());
  const TreeReader& tree = writer_->reader();
  EXPECT_EQ(tree.Lstat("/d")->st.st_mode, S_IFDIR | 0711u);
  EXPECT_EQ(tree.Lstat("/d/f")->st.st_mode, S_IFREG | 04755u);
  EXPECT_EQ(tree.Lstat("/d/f")->st.st_mtime, 12345);
  EXPECT_EQ(tree.Lstat("/d/l")->link, "../anywhere");
  EXPECT_EQ(tree.Lstat("/d/h")->st.st_ino, tree.Lstat("/d/f")->st.st_ino);
  EXPECT_EQ(Contents(tree, "/d/h"), "hello");
}

TEST_F(PlainWriter, RefusesWhatExists) {
  ASSERT_TRUE(writer_->WriteFile("/f", "x", {}).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(writer_->MakeDir("/f", {})));
  EXPECT_TRUE(absl::IsAlreadyExists(writer_->MakeSymlink("/f", "y", {})));
  EXPECT_TRUE(absl::IsAlreadyExists(writer_->MakeDir("/", {})));
  ASSERT_TRUE(writer_->MakeDir("/d", {}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(writer_->WriteFile("/d", "x", {})));
  EXPECT_TRUE(absl::IsNotFound(writer_->WriteFile("/no/f", "x", {})));
  EXPECT_TRUE(absl::IsFailedPrecondition(writer_->WriteFile("/f/g", "x", {})));
  EXPECT_TRUE(absl::IsNotFound(writer_->Remove("/none")));
  EXPECT_TRUE(absl::IsInvalidArgument(writer_->Remove("/")));
}

TEST_F(PlainWriter, NeverThroughASymlink) {
  PutDir(temp_.path() + "/outside");
  PutLink(upper_ + "/link", "../outside");
  const absl::Status status = writer_->WriteFile("/link/f", "x", {});
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_FALSE(std::filesystem::exists(temp_.path() + "/outside/f"));
  // Replacing a link replaces the link.
  ASSERT_TRUE(writer_->WriteFile("/link", "x", {}).ok());
  EXPECT_EQ(Contents(writer_->reader(), "/link"), "x");
}

TEST_F(PlainWriter, ReplacingLeavesTheOtherNameAlone) {
  ASSERT_TRUE(writer_->WriteFile("/f", "old", {}).ok());
  ASSERT_TRUE(writer_->MakeHardlink("/g", "/f").ok());
  ASSERT_TRUE(writer_->WriteFile("/f", "new", {}).ok());
  EXPECT_EQ(Contents(writer_->reader(), "/f"), "new");
  EXPECT_EQ(Contents(writer_->reader(), "/g"), "old");
}

TEST_F(PlainWriter, PiecesAndDroppedFiles) {
  auto file = writer_->CreateFile("/f", 6, {});
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->Append("abc").ok());
  ASSERT_TRUE((*file)->Append("def").ok());
  ASSERT_TRUE((*file)->Close().ok());
  file->reset();
  EXPECT_EQ(Contents(writer_->reader(), "/f"), "abcdef");
  auto dropped = writer_->CreateFile("/g", -1, {});
  ASSERT_TRUE(dropped.ok());
  ASSERT_TRUE((*dropped)->Append("abc").ok());
  dropped->reset();
  EXPECT_TRUE(absl::IsNotFound(writer_->reader().Lstat("/g").status()));
}

TEST_F(PlainWriter, CopiesWithOverrides) {
  const std::string other = temp_.Dir("other");
  PutFile(other + "/src", std::string(300000, 'x'), 0640);
  const TreeReader from({other});
  const Entry entry = from.Lstat("/src").value();
  ASSERT_TRUE(writer_->CopyFile(from, "/src", entry, "/copy", {}).ok());
  const Entry copy = writer_->reader().Lstat("/copy").value();
  EXPECT_EQ(copy.st.st_mode, S_IFREG | 0640u);
  EXPECT_EQ(copy.st.st_mtim.tv_nsec, entry.st.st_mtim.tv_nsec);
  EXPECT_NE(copy.st.st_ino, entry.st.st_ino);  // a plain tree is never shared
  EXPECT_EQ(Contents(writer_->reader(), "/copy"), std::string(300000, 'x'));
  Attributes other_mode;
  other_mode.mode = 0600;
  other_mode.mtime = absl::UnixEpoch();
  ASSERT_TRUE(writer_->CopyFile(from, "/src", entry, "/copy2", other_mode).ok());
  EXPECT_EQ(writer_->reader().Lstat("/copy2")->st.st_mode, S_IFREG | 0600u);
  EXPECT_EQ(writer_->reader().Lstat("/copy2")->st.st_mtime, 0);
}

TEST_F(PlainWriter, HolesStayHoles) {
  const std::string other = temp_.Dir("other");
  PutFile(other + "/sparse", "start");
  ASSERT_EQ(::truncate((other + "/sparse").c_str(), 64 << 20), 0);
  const TreeReader from({other});
  ASSERT_TRUE(writer_->CopyFile(from, "/sparse", from.Lstat("/sparse").value(), "/copy", {}).ok());
  const Entry copy = writer_->reader().Lstat("/copy").value();
  EXPECT_EQ(copy.st.st_size, 64 << 20);
  EXPECT_LT(copy.st.st_blocks, 1000);
}

TEST_F(PlainWriter, RemovesDeepTrees) {
  std::string path;
  for (int i = 0; i < 300; ++i) {
    path += "/d";
    ASSERT_TRUE(writer_->MakeDir(path, {}).ok());
    ASSERT_TRUE(writer_->WriteFile(path + "/f", "x", {}).ok());
  }
  ASSERT_TRUE(writer_->Remove("/d").ok());
  EXPECT_THAT(NamesOf(writer_->reader().List("/")), ElementsAre());
}

}  // namespace
}  // namespace kiln::store
