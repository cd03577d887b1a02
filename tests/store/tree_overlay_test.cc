// Needs root: whiteouts, opaque marks and real overlay mounts to compare with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include <map>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "store/base/fd.h"
#include "store/tree.h"
#include "store/tree_writer.h"
#include "tests/store/temp_tree.h"

namespace kiln::store {
namespace {

using ::testing::ElementsAre;

std::string Describe(const TreeReader& tree, const std::string& path, const Entry& entry) {
  std::string out = absl::StrCat(path, " ", absl::Hex(entry.st.st_mode), " ", entry.st.st_uid, ":",
                                 entry.st.st_gid, " ", entry.link);
  if (S_ISREG(entry.st.st_mode)) {
    auto fd = tree.Open(path);
    absl::StrAppend(&out, " ", fd.ok() ? ReadAll(fd->get()).value() : fd.status().ToString());
  }
  const auto xattrs = tree.Xattrs(entry, path);
  if (!xattrs.ok()) return xattrs.status().ToString();
  for (const auto& [name, value] : *xattrs) absl::StrAppend(&out, " ", name, "=", value);
  return out;
}

std::vector<std::string> Listing(const TreeReader& tree) {
  std::vector<std::string> out;
  const absl::Status status =
      tree.Walk("/", [&](const std::string& path, const Entry& entry) -> absl::StatusOr<bool> {
        out.push_back(Describe(tree, path, entry));
        return true;
      });
  if (!status.ok()) out.push_back(status.ToString());
  return out;
}

// What the kernel makes of the layers.
std::vector<std::string> KernelListing(const TempDir& temp, const Layers& layers) {
  const std::string mount_point = temp.Dir("mnt");
  std::vector<std::string> top_first(layers.rbegin(), layers.rend());
  const std::string empty = temp.Dir("empty");
  top_first.push_back(empty);  // a read-only overlay wants two layers
  const std::string options = "lowerdir=" + absl::StrJoin(top_first, ":");
  if (::mount("overlay", mount_point.c_str(), "overlay", MS_RDONLY, options.c_str()) != 0)
    return {absl::StrCat("mount failed: ", errno)};
  std::vector<std::string> out = Listing(TreeReader({mount_point}));
  ::umount2(mount_point.c_str(), MNT_DETACH);
  return out;
}

class OverlayTree : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::geteuid(), 0u) << "these tests need root"; }
  TempDir temp_;
};

TEST_F(OverlayTree, WhiteoutsAndOpaqueDirectories) {
  const std::string low = temp_.Dir("low"), mid = temp_.Dir("mid"), up = temp_.Dir("up");
  PutFile(low + "/gone", "");
  PutFile(low + "/back", "low");
  PutFile(low + "/d/hidden", "");
  PutFile(low + "/e/x/deep", "");
  PutWhiteout(mid + "/gone");
  PutWhiteout(mid + "/back");
  PutFile(up + "/back", "up");
  PutFile(mid + "/d/shown", "");
  MarkOpaque(mid + "/d");
  PutWhiteout(up + "/e/x");
  const TreeReader tree({low, mid, up});
  EXPECT_EQ(Listing(tree), KernelListing(temp_, tree.layers()));
  EXPECT_TRUE(absl::IsNotFound(tree.Lstat("/gone").status()));
  EXPECT_TRUE(absl::IsNotFound(tree.Lstat("/d/hidden").status()));
  EXPECT_TRUE(absl::IsNotFound(tree.Lstat("/e/x/deep").status()));
  EXPECT_EQ(tree.List("/d")->size(), 1u);
}

TEST_F(OverlayTree, HardlinksFromImmutableSnapshots) {
  const std::string low = temp_.Dir("low"), up = temp_.Dir("up");
  PutFile(low + "/a", "shared");
  const TreeReader from({low});
  const auto writer = NewTreeWriter({}, up, true, nullptr);
  const Entry a = from.Lstat("/a").value();
  ASSERT_TRUE(writer->CopyFile(from, "/a", a, "/one", {}).ok());
  ASSERT_TRUE(writer->CopyFile(from, "/a", a, "/two", {}).ok());
  EXPECT_EQ(writer->reader().Lstat("/one")->st.st_ino, a.st.st_ino);
  // Two copies are two files: linking both would make them names of one.
  EXPECT_NE(writer->reader().Lstat("/two")->st.st_ino, a.st.st_ino);
  // Changing the copy leaves the original alone.
  Attributes mode;
  mode.mode = 0600;
  ASSERT_TRUE(writer->SetAttributes("/one", mode).ok());
  ASSERT_TRUE(writer->SetXattr("/two", "user.x", "1").ok());
  EXPECT_EQ(from.Lstat("/a")->st.st_mode, S_IFREG | 0644u);
  EXPECT_EQ(writer->reader().Lstat("/one")->st.st_mode, S_IFREG | 0600u);
  EXPECT_TRUE(from.Xattrs(from.Lstat("/a").value(), "/a")->empty());
  EXPECT_EQ(Slurp(up + "/one"), "shared");
}

// A whiteout of the writer's own may stand where the tree has nothing.
TEST_F(OverlayTree, ANewNameMayHaveAWhiteout) {
  const std::string source = temp_.Dir("source"), low = temp_.Dir("low"), up = temp_.Dir("up");
  PutFile(source + "/a", "new");
  PutFile(low + "/gone", "old");
  const TreeReader from({source});
  const Entry a = from.Lstat("/a").value();
  const auto writer = NewTreeWriter({low}, up, true, nullptr);
  ASSERT_TRUE(writer->Remove("/gone").ok());
  ASSERT_TRUE(writer->CopyNewFile(from, "/a", a, "/gone", {}).ok());
  ASSERT_TRUE(writer->CopyNewFile(from, "/a", a, "/other", {}).ok());
  EXPECT_EQ(Slurp(up + "/gone"), "new");
  EXPECT_EQ(Slurp(up + "/other"), "new");
  EXPECT_EQ(Listing(writer->reader()), KernelListing(temp_, writer->reader().layers()));
}

TEST_F(OverlayTree, CopyUpKeepsMetadataOfParents) {
  const std::string low = temp_.Dir("low"), up = temp_.Dir("up");
  PutDir(low + "/d/e", 0750);
  ASSERT_EQ(::chown((low + "/d/e").c_str(), 12, 34), 0);
  ASSERT_EQ(::chmod((low + "/d/e").c_str(), 02750), 0);
  ASSERT_EQ(::lsetxattr((low + "/d/e").c_str(), "user.k", "v", 1, 0), 0);
  const auto writer = NewTreeWriter({low}, up, true, nullptr);
  ASSERT_TRUE(writer->WriteFile("/d/e/f", "x", {}).ok());
  const Entry e = writer->reader().Lstat("/d/e").value();
  EXPECT_EQ(e.layer, 1);
  EXPECT_EQ(e.st.st_mode, S_IFDIR | 02750u);
  EXPECT_EQ(e.st.st_uid, 12u);
  EXPECT_EQ(e.st.st_gid, 34u);
  EXPECT_EQ(writer->reader().Xattrs(e, "/d/e")->at("user.k"), "v");
  EXPECT_EQ(writer->reader().Lstat("/d/e/f")->st.st_gid, 0u);  // not the setgid directory's
}

TEST_F(OverlayTree, FullDiskNamesThePath) {
  const std::string up = temp_.Dir("small");
  ASSERT_EQ(::mount("tmpfs", up.c_str(), "tmpfs", 0, "size=64k"), 0);
  {
    const auto writer = NewTreeWriter({}, up, true, nullptr);
    const absl::Status status = writer->WriteFile("/big", std::string(1 << 20, 'x'), {});
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "/big")) << status;
    EXPECT_TRUE(absl::IsNotFound(writer->reader().Lstat("/big").status()));
    const std::string other = temp_.Dir("other");
    PutFile(other + "/src", std::string(1 << 20, 'x'));
    const TreeReader from({other});
    const absl::Status copied =
        writer->CopyFile(from, "/src", from.Lstat("/src").value(), "/copy", {});
    EXPECT_TRUE(absl::IsResourceExhausted(copied)) << copied;
    EXPECT_TRUE(absl::StrContains(copied.message(), "/copy")) << copied;
    EXPECT_TRUE(absl::IsNotFound(writer->reader().Lstat("/copy").status()));
  }
  EXPECT_EQ(::umount(up.c_str()), 0);
}

// Random changes through writers stacked on one another, against the kernel's view of the layers
// and a plain tree that took the same changes without any overlay.
class RandomChanges : public OverlayTree, public ::testing::WithParamInterface<int> {};

std::string RandomPath(std::mt19937& random) {
  std::string path;
  const int depth = 1 + static_cast<int>(random() % 3);
  for (int i = 0; i < depth; ++i) absl::StrAppend(&path, "/", std::string(1, "abc"[random() % 3]));
  return path;
}

void Change(std::mt19937& random, const TreeReader& other, TreeWriter& a, TreeWriter& b) {
  const std::string path = RandomPath(random), second = RandomPath(random);
  Attributes attributes;
  attributes.mode = random() % 2 ? 0755 : 04711;
  attributes.uid = random() % 3;
  attributes.mtime = absl::FromUnixSeconds(random() % 1000);
  const std::string data = absl::StrCat("content ", random() % 5);
  const uint32_t what = random() % 9;
  const auto apply = [&](TreeWriter& writer) -> absl::Status {
    switch (what) {
      case 0:
      case 1:
        return writer.MakeDir(path, attributes);
      case 2:
        return writer.WriteFile(path, data, attributes);
      case 3:
        return writer.MakeSymlink(path, data, attributes);
      case 4:
      case 5:
        return writer.Remove(path);
      case 6:
        return writer.SetAttributes(path, attributes);
      case 7: {
        const auto entry = writer.reader().Lstat(path);
        if (!entry.ok() || S_ISLNK(entry->st.st_mode)) return absl::OkStatus();
        return writer.SetXattr(path, "user.k", data);
      }
      default:
        return writer.CopyFile(other, "/src", other.Lstat("/src").value(), second, {});
    }
  };
  const absl::Status status_a = apply(a), status_b = apply(b);
  ASSERT_EQ(status_a.code(), status_b.code())
      << what << " " << path << ": " << status_a << " or " << status_b;
}

TEST_P(RandomChanges, AgreeWithTheKernel) {
  std::mt19937 random(static_cast<uint32_t>(GetParam()));
  const std::string other_dir = temp_.Dir("other"), flat = temp_.Dir("flat");
  PutFile(other_dir + "/src", "from elsewhere");
  const TreeReader other({other_dir});
  const auto plain = NewTreeWriter({}, flat, false, nullptr);
  Layers layers;
  for (int layer = 0; layer < 5; ++layer) {
    const std::string upper = temp_.Dir(absl::StrCat("layer", layer));
    const auto writer = NewTreeWriter(layers, upper, true, nullptr);
    for (int i = 0; i < 25; ++i) {
      Change(random, other, *writer, *plain);
      if (HasFatalFailure()) return;
    }
    layers.push_back(upper);
    const std::vector<std::string> ours = Listing(TreeReader(layers));
    ASSERT_EQ(ours, Listing(plain->reader())) << "seed " << GetParam() << ", layer " << layer;
    ASSERT_EQ(ours, KernelListing(temp_, layers)) << "seed " << GetParam() << ", layer " << layer;
  }
  EXPECT_EQ(Slurp(other_dir + "/src"), "from elsewhere");
  EXPECT_EQ(other.Lstat("/src")->st.st_mode, S_IFREG | 0644u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomChanges, ::testing::Range(1, 61));

}  // namespace
}  // namespace kiln::store
