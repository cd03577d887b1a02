// Every rule of images-and-cache.md 2.1, and archives that mean harm.
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "store/layer/layer_unpacker.h"
#include "store/snapshot/copy_entry.h"
#include "tests/store/layer/layer_bytes.h"
#include "tests/store/layer/tar_builder.h"
#include "tests/store/layer/tree_listing.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::store {
namespace {

using testing::HasSubstr;
using testing::Not;

// Mode, owner, times and extended attributes of each directory.
std::string ShowDirectories(const Layers& layers) {
  TreeReader reader(layers);
  std::string out;
  Must(reader.Walk("/", [&](const std::string& path, const Entry& entry) -> absl::StatusOr<bool> {
    const struct stat& st = entry.st;
    if (!S_ISDIR(st.st_mode)) return true;
    absl::StrAppend(&out, path, " ", absl::StrFormat("%o", st.st_mode & 07777), " ", st.st_uid, ":",
                    st.st_gid, " ", st.st_mtim.tv_sec);
    for (const auto& [name, value] : Must(reader.Xattrs(entry, path)))
      absl::StrAppend(&out, " ", name, "=", value);
    out += "\n";
    return true;
  }));
  return out;
}

TarEntry OwnedDirectory(const std::string& name, uint32_t uid) {
  TarEntry entry = TarBuilder::Entry(TarType::kDirectory, name + "/", 0700 + uid);
  entry.uid = uid;
  entry.xattrs["user.owner"] = absl::StrCat(uid);
  return entry;
}

// Unpacks archives one upon the other, as one tree and as a stack of layers.
class UnpackTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "these tests make devices: run them as root";
    char name[] = "/tmp/kiln-unpack-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    Put("/outside/secret", "untouched");
  }
  void TearDown() override {
    EXPECT_EQ(Read("/outside/secret"), "untouched");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_ + "/outside"),
                            std::filesystem::directory_iterator()),
              1);
    std::filesystem::remove_all(dir_);
  }
  bool overlay() const { return GetParam(); }

  void Put(const std::string& path, const std::string& data) {
    std::filesystem::create_directories(std::filesystem::path(dir_ + path).parent_path());
    std::ofstream(dir_ + path) << data;
  }
  std::string Read(const std::string& path) const {
    std::ifstream in(dir_ + path);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  absl::Status Unpack(const std::string& archive, UnpackOptions options = {}, size_t piece = 700) {
    if (overlay() || layers_.empty()) {
      layers_.push_back(absl::StrCat(dir_, "/layer", layers_.size()));
      EXPECT_EQ(::mkdir(layers_.back().c_str(), 0755), 0);
    }
    Layers lower = layers_;
    lower.pop_back();
    options.overlay_form = overlay();
    options.lower = [&] { return lower; };
    auto unpacker = LayerUnpacker::Create(layers_.back(), options);
    if (!unpacker.ok()) return unpacker.status();
    StringStream in(archive, piece);
    const absl::Status status = (*unpacker)->Unpack(in);
    return status.ok() ? (*unpacker)->Settle(lower) : status;
  }
  absl::Status Unpack(const TarBuilder& tar, UnpackOptions options = {}) {
    return Unpack(tar.Build(), std::move(options));
  }
  std::string Tree() const { return ShowListing(layers_); }
  std::string Host(const std::string& path) const { return layers_.back() + path; }
  static struct stat FileStat(const std::string& path) {
    struct stat st = {};
    EXPECT_EQ(::lstat(path.c_str(), &st), 0) << path;
    return st;
  }
  struct stat Stat(const std::string& path) const {
    return FileStat(Host(path));
  }

  std::string dir_;
  Layers layers_;
};
INSTANTIATE_TEST_SUITE_P(Forms, UnpackTest, testing::Bool(), [](const auto& test) {
  return std::string(test.param ? "Layers" : "WholeTree");
});

TEST_P(UnpackTest, L1_NamesAreCleanedAndStayInside) {
  Must(Unpack(TarBuilder()
                  .File("/abs", "1")
                  .File("./dot//slash", "2")
                  .File("../../up", "3")
                  .File("a/../b", "4")));
  EXPECT_EQ(Tree(), "abs=1 b=4 dot/ dot/slash=2 up=3 ");
}

TEST_P(UnpackTest, L1_ParentsFollowLinksInsideTheRoot) {
  Must(Unpack(TarBuilder()
                  .Symlink("out", "../../../outside")
                  .File("out/a", "1")
                  .Symlink("abs", "/real")
                  .File("abs/b", "2")
                  .Dir("deep/er")
                  .Symlink("deep/er/link", "..")
                  .File("deep/er/link/c", "3")));
  EXPECT_EQ(Tree(),
            "abs->/real deep/ deep/c=3 deep/er/ deep/er/link->.. out->../../../outside outside/ "
            "outside/a=1 real/ real/b=2 ");
}

TEST_P(UnpackTest, LoopingLinksAndFilesAsParentsAreErrors) {
  EXPECT_FALSE(Unpack(TarBuilder().Symlink("a", "b").Symlink("b", "a").File("a/x", "1")).ok());
  const absl::Status status = Unpack(TarBuilder().File("f", "1").File("f/x", "2"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("f is no directory"));
}

TEST_P(UnpackTest, L1_ADirectoryThatBecameALinkIsLeftAlone) {
  const std::string outside = dir_ + "/outside";
  ASSERT_EQ(::chmod(outside.c_str(), 0700), 0);
  const auto unchanged = [&, before = FileStat(outside)] {
    const struct stat now = FileStat(outside);
    return now.st_mode == before.st_mode && now.st_uid == before.st_uid &&
           now.st_mtim.tv_sec == before.st_mtim.tv_sec;
  };
  TarEntry open = TarBuilder::Entry(TarType::kDirectory, "a/outside/", 0777);
  open.uid = 7;
  Must(Unpack(TarBuilder().Add(open)));
  Must(Unpack(TarBuilder().File("a/outside/f", "1").Symlink("a", dir_)));
  EXPECT_TRUE(unchanged()) << "implied";
  Must(Unpack(TarBuilder().Add(open).File("a/outside/f", "1").Symlink("a", dir_)));
  EXPECT_TRUE(unchanged()) << "listed";
  Must(Unpack(TarBuilder().Add(open).File("a/.wh.b", "").File(".wh.a", "").Symlink("a", "..")));
  EXPECT_TRUE(unchanged()) << "removed by a whiteout";
}

TEST_P(UnpackTest, L1_AWhiteoutBelowWhatBecameALinkIsLeftAlone) {
  const std::string other = dir_ + "/other";
  ASSERT_EQ(::mkdir(other.c_str(), 0755), 0);
  Must(MakeWhiteout(other + "/w"));
  Must(Unpack(TarBuilder().File("a/.wh.w", "").Symlink("a", other)));
  EXPECT_TRUE(IsWhiteout(FileStat(other + "/w")));
}

// Not those of a directory that this layer hides, in whatever order that is told.
TEST_P(UnpackTest, AttributesOfImpliedDirectoriesAreThoseThatShow) {
  for (const std::string hides : {"a/.wh..wh..opq", ".wh.a", ".wh..wh..opq", ""}) {
    for (const bool first : {true, false}) {
      if (hides == ".wh.a" && !first) continue;  // removes the file, too
      Must(Unpack(TarBuilder()
                      .File(".wh.a", "")
                      .Add(OwnedDirectory("a", 3))
                      .Add(OwnedDirectory("a/b", 4))
                      .Add(OwnedDirectory("a/b/c", 5))));
      TarBuilder tar;
      if (first && !hides.empty()) tar.File(hides, "");
      tar.File("a/b/c/f", "1");
      if (!first && !hides.empty()) tar.File(hides, "");
      Must(Unpack(tar));
      const std::string a = "/a 703 3:0 1600000000 user.owner=3\n", none = " 755 0:0 0\n",
                        rest =
                            "/a/b 704 4:0 1600000000 user.owner=4\n"
                            "/a/b/c 705 5:0 1600000000 user.owner=5\n";
      EXPECT_EQ(ShowDirectories(layers_), hides.empty()
                                              ? a + rest
                                              : (absl::StartsWith(hides, "a/") ? a : "/a" + none) +
                                                    "/a/b" + none + "/a/b/c" + none)
          << hides << " " << first;
    }
  }
}

TEST_P(UnpackTest, AListedDirectoryHasItsOwnAttributesOnly) {
  Must(Unpack(TarBuilder().Add(OwnedDirectory("a", 3))));
  Must(Unpack(TarBuilder().Dir("a")));
  EXPECT_EQ(ShowDirectories(layers_), "/a 755 0:0 1600000000\n");
}

TEST_P(UnpackTest, AFileBelowWhereADirectoryIsNeededIsHidden) {
  Must(Unpack(TarBuilder().File("f", "1").File("g", "2").File("h", "3")));
  Must(Unpack(TarBuilder().File("f/x/y", "4").File("g/.wh.z", "")));
  EXPECT_EQ(Tree(), "f/ f/x/ f/x/y=4 g/ h=3 ");
  EXPECT_EQ(Stat("/f").st_mode & 07777, 0755u);
  // The link makes the file one of this layer.
  const absl::Status status = Unpack(TarBuilder().Hardlink("l", "h").File("h/x", "5"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("h is no directory"));
}

TEST_P(UnpackTest, AnOpaqueRootHidesTheTargetsOfLinks) {
  Must(Unpack(TarBuilder().File("a", "1").File("b", "2")));
  const absl::Status status =
      Unpack(TarBuilder().Hardlink("first", "a").File(".wh..wh..opq", "").Hardlink("late", "b"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"b\", which does not exist"));
}

TEST_P(UnpackTest, MissingParentsAreMadeOrCopied) {
  Must(Unpack(TarBuilder().Add([] {
    TarEntry entry = TarBuilder::Entry(TarType::kDirectory, "d/", 0710);
    entry.uid = 7;
    return entry;
  }())));
  Must(Unpack(TarBuilder().File("d/a", "1").File("new/b", "2")));
  EXPECT_EQ(Stat("/d").st_mode & 07777, 0710u);
  EXPECT_EQ(Stat("/d").st_uid, 7u);
  EXPECT_EQ(Stat("/d").st_mtim.tv_sec, 1600000000);
  EXPECT_EQ(Stat("/new").st_mode & 07777, 0755u);
  EXPECT_EQ(Stat("/new").st_uid, 0u);
}

TEST_P(UnpackTest, L3_WhiteoutsRemoveFilesDirectoriesAndNothing) {
  Must(Unpack(TarBuilder().File("f", "1").Dir("d").File("d/x", "2").File("keep", "3")));
  Must(Unpack(TarBuilder().File(".wh.f", "").File(".wh.d", "").File(".wh.never", "")));
  EXPECT_EQ(Tree(), "keep=3 ");
  // No whiteout stays where nothing is below it: overlayfs would list its name.
  EXPECT_NE(::access(Host("/.wh.never").c_str(), F_OK), 0);
  EXPECT_NE(::access(Host("/never").c_str(), F_OK), 0);
}

TEST_P(UnpackTest, AWhiteoutRemovesItsSiblingOfTheSameLayer) {
  Must(Unpack(TarBuilder().File("f", "1").File(".wh.f", "")));
  EXPECT_EQ(Tree(), "");
}

TEST_P(UnpackTest, WhiteoutsThenNewThings) {
  Must(Unpack(TarBuilder().Dir("d").File("d/old", "1").File("f", "2").Dir("e").File("e/old", "")));
  Must(Unpack(TarBuilder()
                  .File(".wh.d", "")
                  .Dir("d")
                  .File("d/new", "3")
                  .File(".wh.f", "")
                  .File("f", "4")
                  .File(".wh.e", "")
                  .File("e/new", "5")));
  EXPECT_EQ(Tree(), "d/ d/new=3 e/ e/new=5 f=4 ");
}

TEST_P(UnpackTest, L2_OpaqueHidesWhatWasThereInAnyOrder) {
  Must(Unpack(TarBuilder().Dir("a").File("a/old", "1").Dir("a/sub").File("a/sub/old", "2")));
  const std::string first = TarBuilder().Dir("a").File("a/.wh..wh..opq", "").bytes();
  const std::string rest =
      TarBuilder().File("a/new", "3").Dir("a/sub").File("a/sub/new", "4").bytes();
  const Layers below = layers_;
  Must(Unpack(first + rest));
  EXPECT_EQ(Tree(), "a/ a/new=3 a/sub/ a/sub/new=4 ");
  // Each order of four entries.
  std::vector<std::string> entries = {
      TarBuilder().Dir("b").bytes(), TarBuilder().File("b/.wh..wh..opq", "").bytes(),
      TarBuilder().File("b/new", "3").bytes(), TarBuilder().File("b/sub/new", "4").bytes()};
  std::sort(entries.begin(), entries.end());
  do {
    Must(Unpack(TarBuilder().Dir("b").File("b/old", "1").Dir("b/sub").File("b/sub/old", "2")));
    Must(Unpack(absl::StrJoin(entries, "")));
    EXPECT_EQ(Tree(), "a/ a/new=3 a/sub/ a/sub/new=4 b/ b/new=3 b/sub/ b/sub/new=4 ");
  } while (std::next_permutation(entries.begin(), entries.end()));
}

TEST_P(UnpackTest, OpaqueAfterItsNewChildren) {
  Must(Unpack(TarBuilder().Dir("a").File("a/old", "1").Dir("a/sub").File("a/sub/old", "2")));
  Must(Unpack(
      TarBuilder().File("a/new", "3").File("a/sub/new", "4").File("a/.wh..wh..opq", "").Dir("a")));
  EXPECT_EQ(Tree(), "a/ a/new=3 a/sub/ a/sub/new=4 ");
}

TEST_P(UnpackTest, AnOpaqueRoot) {
  Must(Unpack(TarBuilder().File("old", "1").Dir("d").File("d/old", "2")));
  Must(Unpack(TarBuilder().File(".wh..wh..opq", "").File("new", "3").Dir("d").File("d/new", "4")));
  EXPECT_EQ(Tree(), "d/ d/new=4 new=3 ");
}

TEST_P(UnpackTest, OtherAufsNamesMeanNothing) {
  Must(Unpack(TarBuilder().File(".wh..wh.plnk", "x").Dir(".wh..wh.orph").File("a", "1")));
  EXPECT_EQ(Tree(), "a=1 ");
}

TEST_P(UnpackTest, WhiteoutsWithoutANameAreErrors) {
  for (const char* name : {".wh.", ".wh..", ".wh...", "d/.wh..."})
    EXPECT_EQ(Unpack(TarBuilder().File(name, "")).code(), absl::StatusCode::kInvalidArgument)
        << name;
}

TEST_P(UnpackTest, WhatExistsIsReplacedOrMerged) {
  Must(Unpack(TarBuilder()
                  .Dir("merge", 0700)
                  .File("merge/old", "1")
                  .Dir("dir")
                  .File("dir/x", "2")
                  .File("file", "3")
                  .Symlink("link", "file")
                  .Symlink("todir", "merge")));
  Must(Unpack(TarBuilder()
                  .Dir("merge", 0711)
                  .File("merge/new", "4")
                  .File("dir", "5")
                  .Dir("file")
                  .File("link", "6")
                  .Dir("todir")));
  EXPECT_EQ(Tree(), "dir=5 file/ link=6 merge/ merge/new=4 merge/old=1 todir/ ");
  EXPECT_EQ(Stat("/merge").st_mode & 07777, 0711u);
}

TEST_P(UnpackTest, TheLastOfEqualNamesWins) {
  Must(Unpack(TarBuilder()
                  .File("a", "old")
                  .File("a", "new")
                  .Dir("b")
                  .File("b/x", "1")
                  .File("b", "2")
                  .File("c", "3")
                  .Dir("c")
                  .File("c/y", "4")));
  EXPECT_EQ(Tree(), "a=new b=2 c/ c/y=4 ");
}

TEST_P(UnpackTest, HardlinksInsideTheRoot) {
  Must(Unpack(TarBuilder()
                  .File("a", "1")
                  .Hardlink("b", "/a")
                  .Hardlink("c", "../../a")
                  .Symlink("s", "a")
                  .Hardlink("s2", "s")));
  EXPECT_EQ(Stat("/a").st_nlink, 3u);
  EXPECT_EQ(Stat("/a").st_ino, Stat("/c").st_ino);
  EXPECT_EQ(Stat("/s2").st_ino, Stat("/s").st_ino);
  EXPECT_EQ(Tree(), "a=1 b=1 c=1 s->a s2->a ");
}

TEST_P(UnpackTest, L1_HardlinksToNowhereOrOutsideAreErrors) {
  for (const char* target : {"nothing", "../outside/secret", "/outside/secret", "up/secret", "/"}) {
    const absl::Status status =
        Unpack(TarBuilder().Symlink("up", "../outside").Hardlink("l", target));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << target << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("does not exist")) << target;
  }
  EXPECT_FALSE(Unpack(TarBuilder().File("a", "1").Hardlink("a", "a")).ok());
  EXPECT_FALSE(Unpack(TarBuilder().Dir("d").Hardlink("l", "d")).ok());
}

TEST_P(UnpackTest, AHardlinkToAFileOfALowerLayer) {
  Must(Unpack(TarBuilder().Dir("d").File("d/a", "1", 0751)));
  Must(Unpack(TarBuilder().Add([] {
    TarEntry entry = TarBuilder::Entry(TarType::kHardlink, "b", 0751);
    entry.link = "d/a";
    return entry;
  }())));
  EXPECT_EQ(Tree(), "b=1 d/ d/a=1 ");
  EXPECT_EQ(Stat("/b").st_ino, Stat("/d/a").st_ino);
  EXPECT_EQ(Stat("/b").st_mode & 07777, 0751u);
}

TEST_P(UnpackTest, AHardlinkToWhatThisLayerRemovedIsAnError) {
  Must(Unpack(TarBuilder().File("a", "1")));
  EXPECT_FALSE(Unpack(TarBuilder().File(".wh.a", "").Hardlink("b", "a")).ok());
}

TEST_P(UnpackTest, DevicesAndFifos) {
  TarEntry tty = TarBuilder::Entry(TarType::kCharDevice, "tty", 0620);
  tty.device = makedev(5, 1);
  tty.gid = 5;
  TarEntry disk = TarBuilder::Entry(TarType::kBlockDevice, "disk", 0660);
  disk.device = makedev(259, 70000);
  Must(
      Unpack(TarBuilder().Add(tty).Add(disk).Add(TarBuilder::Entry(TarType::kFifo, "pipe", 0600))));
  EXPECT_TRUE(S_ISCHR(Stat("/tty").st_mode));
  EXPECT_EQ(Stat("/tty").st_rdev, makedev(5, 1));
  EXPECT_EQ(Stat("/tty").st_gid, 5u);
  EXPECT_EQ(Stat("/tty").st_mode & 07777, 0620u);
  EXPECT_EQ(Stat("/disk").st_rdev, makedev(259, 70000));
  EXPECT_TRUE(S_ISFIFO(Stat("/pipe").st_mode));
}

TEST_P(UnpackTest, OwnerModeTimesAndAttributes) {
  TarEntry suid = TarBuilder::Entry(TarType::kFile, "suid", 04755);
  suid.uid = 12;
  suid.gid = 3000000;
  suid.mtime = {1700000000, 123456789};
  suid.xattrs["user.note"] = "hello";
  suid.xattrs["security.capability"] = std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  suid.xattrs["trusted.overlay.opaque"] = "y";
  suid.xattrs["trusted.overlay.redirect"] = "/etc";
  TarEntry link = TarBuilder::Entry(TarType::kSymlink, "link", 0777);
  link.link = "anything";
  link.uid = 9;
  link.xattrs["user.note"] = "refused by the kernel";
  Must(Unpack(TarBuilder().Add(suid, "x").Add(link)));
  const struct stat st = Stat("/suid");
  EXPECT_EQ(st.st_mode & 07777, 04755u);
  EXPECT_EQ(st.st_uid, 12u);
  EXPECT_EQ(st.st_gid, 3000000u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1700000000);
  EXPECT_EQ(st.st_mtim.tv_nsec, 123456789);
  EXPECT_EQ(st.st_atim.tv_sec, 1700000000);
  EXPECT_EQ(Must(ReadXattr(Host("/suid"), "user.note")), "hello");
  EXPECT_EQ(Must(ReadXattr(Host("/suid"), "security.capability")).size(), 20u);
  EXPECT_EQ(Must(ReadXattr(Host("/suid"), "trusted.overlay.opaque")), "");
  EXPECT_EQ(Must(ReadXattr(Host("/suid"), "trusted.overlay.redirect")), "");
  EXPECT_EQ(Stat("/link").st_uid, 9u);
}

TEST_P(UnpackTest, TimesOfDirectoriesSurviveTheirChildren) {
  Must(Unpack(TarBuilder().Dir("d").Dir("d/e").File("d/e/f", "1").File("d/g", "2")));
  EXPECT_EQ(Stat("/d").st_mtim.tv_sec, 1600000000);
  EXPECT_EQ(Stat("/d/e").st_mtim.tv_sec, 1600000000);
}

TEST_P(UnpackTest, TheRootHasAnEntryToo) {
  TarEntry root = TarBuilder::Entry(TarType::kDirectory, "./", 0750);
  root.uid = 4;
  Must(Unpack(TarBuilder().Add(root).File("a", "1")));
  EXPECT_EQ(Stat("/").st_mode & 07777, 0750u);
  EXPECT_EQ(Stat("/").st_uid, 4u);
  EXPECT_EQ(Stat("/").st_mtim.tv_sec, 1600000000);
  // A layer that does not name it keeps what is below.
  Must(Unpack(TarBuilder().File("b", "2")));
  EXPECT_EQ(Stat("/").st_mode & 07777, 0750u);
  EXPECT_EQ(Stat("/").st_uid, 4u);
  EXPECT_FALSE(Unpack(TarBuilder().File("/", "no")).ok());
}

TEST_P(UnpackTest, SparseFiles) {
  TarEntry entry = TarBuilder::Entry(TarType::kFile, "holes", 0644);
  const std::string records = absl::StrCat("22 GNU.sparse.major=0\n", "22 GNU.sparse.minor=1\n",
                                           "27 GNU.sparse.size=1000000\n"
                                           "29 GNU.sparse.map=10,2,500,1\n");
  TarEntry pax = TarBuilder::Entry(TarType::kFile, "pax", 0644);
  pax.size = static_cast<int64_t>(records.size());
  std::string header = EncodeTarHeader(pax);
  // The sum changes by as much as the type does.
  header[156] = 'x';
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i)
    sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(header[i]);
  std::snprintf(&header[148], 7, "%06o", sum);
  Must(Unpack(
      TarBuilder()
          .Raw(header + records + std::string(TarPadding(static_cast<int64_t>(records.size()))))
          .Add(entry, "abc")));
  const std::string data = Must(ReadFileToString(Host("/holes")));
  ASSERT_EQ(data.size(), 1000000u);
  EXPECT_EQ(data.substr(10, 2), "ab");
  EXPECT_EQ(data[500], 'c');
  EXPECT_EQ(std::count(data.begin(), data.end(), '\0'), 999997);
}

TEST_P(UnpackTest, LimitsAreNamed) {
  UnpackOptions options;
  options.limits.max_bytes = 10;
  absl::Status status = Unpack(TarBuilder().File("a", "12345").File("big", "1234567"), options);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("10 bytes"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"big\""));
  options = {};
  options.limits.max_entries = 2;
  status = Unpack(TarBuilder().File("a", "").File("b", "").File("c", ""), options);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 entries"));
  std::string deep;
  while (deep.size() < 4100) deep += "d/";
  status = Unpack(TarBuilder().File(deep + "x", ""));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("4096"));
  EXPECT_LT(status.message().size(), 500u) << "a name is cut";
  status = Unpack(TarBuilder().File("\x1b[2J\xff", "12345678901"), {.limits = {.max_bytes = 10}});
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"\\x1b[2J\\xff\""));
  status = Unpack(TarBuilder().File(std::string(300, 'n'), ""));
  EXPECT_FALSE(status.ok());
}

TEST_P(UnpackTest, CancelledInTheMiddle) {
  CancelSource source;
  source.Cancel();
  UnpackOptions options;
  options.cancel = source.token();
  EXPECT_TRUE(absl::IsCancelled(Unpack(TarBuilder().File("a", "1"), options)));
}

TEST_P(UnpackTest, BytesAfterTheEndAreReadToTheEnd) {
  layers_.push_back(dir_ + "/layer");
  ASSERT_EQ(::mkdir(layers_.back().c_str(), 0755), 0);
  const std::string archive = TarBuilder().File("a", "1").Build() + std::string(5000, 'z');
  StringStream in(archive, 333);
  HashingStream hashed(&in);
  auto unpacker = Must(LayerUnpacker::Create(layers_.back(), {.overlay_form = overlay()}));
  Must(unpacker->Unpack(hashed));
  EXPECT_EQ(hashed.Finish(), Digest::Of(archive));
}

TEST_P(UnpackTest, ADevice00IsAWhiteoutInALayer) {
  Must(Unpack(TarBuilder().File("a", "1").File("b", "2")));
  Must(Unpack(TarBuilder().Add(TarBuilder::Entry(TarType::kCharDevice, "a", 0))));
  if (overlay()) {
    EXPECT_EQ(Tree(), "b=2 ");
  } else {
    EXPECT_TRUE(S_ISCHR(Stat("/a").st_mode));
  }
}

// Both forms give the same tree, whatever comes.
TEST(Unpack, LayersAndWholeTreesAgreeOnRandomArchives) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 dice(seed);
  char name[] = "/tmp/kiln-unpack-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string dir = name;
  for (int round = 0; round < 60 && !testing::Test::HasFailure(); ++round) {
    Layers stack, whole = {absl::StrCat(dir, "/whole", round)};
    ASSERT_EQ(::mkdir(whole[0].c_str(), 0755), 0);
    std::string log;
    for (int layer = 0; layer < 4; ++layer) {
      TarBuilder tar;
      for (int i = 0; i < 12; ++i) {
        const unsigned kind = dice() % 8;
        std::string path;
        for (int depth = static_cast<int>(dice() % 3); depth >= 0; --depth)
          path += std::string(path.empty() ? "" : "/") + "abc"[dice() % 3];
        // Or most archives would want a file as a directory, which ends a round.
        if (dice() % 8 != 0 && kind < 3) path.back() = "fgh"[dice() % 3];
        const size_t slash = path.rfind('/') == path.npos ? 0 : path.rfind('/') + 1;
        log += absl::StrCat(layer, ":", kind, ":", path, " ");
        if (kind < 3) tar.File(path, absl::StrCat(layer, i));
        if (kind == 3) tar.Dir(path);
        if (kind == 4) tar.Add(OwnedDirectory(path, 1 + dice() % 7));
        if (kind == 5) tar.File(path.substr(0, slash) + ".wh." + path.substr(slash), "");
        if (kind == 6) tar.File(path.substr(0, slash) + ".wh..wh..opq", "");
        if (kind == 7) tar.Hardlink(path + "l", path.substr(0, slash) + "fgh"[dice() % 3]);
      }
      stack.push_back(absl::StrCat(dir, "/stack", round, "-", layer));
      ASSERT_EQ(::mkdir(stack.back().c_str(), 0755), 0);
      Layers lower = stack;
      lower.pop_back();
      UnpackOptions options;
      options.lower = [&] { return lower; };
      auto one = Must(LayerUnpacker::Create(stack.back(), options));
      options.overlay_form = false;
      auto two = Must(LayerUnpacker::Create(whole[0], options));
      StringStream in1(tar.Build()), in2(tar.Build());
      const absl::Status s1 = one->Unpack(in1), s2 = two->Unpack(in2);
      ASSERT_EQ(s1.ok(), s2.ok()) << log << "\n" << s1 << "\n" << s2;
      if (!s1.ok()) break;
      Must(one->Settle(lower));
      Must(two->Settle({}));
      ASSERT_EQ(ShowListing(stack), ShowListing(whole)) << log;
      ASSERT_EQ(ShowDirectories(stack), ShowDirectories(whole)) << log;
    }
  }
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace kiln::store
