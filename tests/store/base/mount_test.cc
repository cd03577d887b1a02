#include "store/base/mount.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/base/fd.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::Not;

class MountTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "these tests mount: run them as root";
    char name[] = "/tmp/kiln-mount-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
  }
  void TearDown() override {
    ASSERT_TRUE(DetachMountsBelow(root_).ok());
    fs::remove_all(root_);
  }

  std::string Dir(const std::string& name) {
    fs::create_directories(root_ + "/" + name);
    return root_ + "/" + name;
  }
  static void Put(const std::string& path, const std::string& data) { std::ofstream(path) << data; }
  static std::string Read(const std::string& path) {
    return ReadFileToString(path).value_or("(absent)");
  }

  // Layers l0 … l<n-1>, each with a file of its own and one that all share.
  OverlayOptions Stack(int n) {
    OverlayOptions options;
    for (int i = 0; i < n; ++i) {
      options.lower.push_back(Dir(absl::StrCat("l", i, "/fs")));
      Put(absl::StrCat(options.lower.back(), "/own", i), absl::StrCat(i));
      Put(options.lower.back() + "/shared", absl::StrCat(i));
    }
    return options;
  }

  std::string root_;
};

TEST_F(MountTest, BindShowsTheSourceAndEndsWithItsOwner) {
  Put(Dir("source") + "/f", "data");
  const std::string target = Dir("target");
  {
    auto mount = Mount::Bind(root_ + "/source", target, {});
    ASSERT_TRUE(mount.ok()) << mount.status();
    EXPECT_EQ(Read(target + "/f"), "data");
    EXPECT_THAT(*MountsBelow(root_), Contains(target));
  }
  EXPECT_EQ(Read(target + "/f"), "(absent)");
}

TEST_F(MountTest, ReadOnlyBindRefusesWrites) {
  const std::string source = Dir("source"), target = Dir("target");
  auto mount = Mount::Bind(source, target, {.read_only = true});
  ASSERT_TRUE(mount.ok()) << mount.status();
  EXPECT_FALSE(OpenFile(target + "/new", O_CREAT | O_WRONLY).ok());
  EXPECT_TRUE(OpenFile(source + "/new", O_CREAT | O_WRONLY).ok());
}

TEST_F(MountTest, BindErrorNamesBothPaths) {
  const absl::Status status = Mount::Bind(root_ + "/none", Dir("target"), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(root_ + "/none"));
}

TEST_F(MountTest, OverlayStacksInOrder) {
  auto mount = Mount::Overlay(Stack(3), Dir("merged"));
  ASSERT_TRUE(mount.ok()) << mount.status();
  EXPECT_EQ(Read(root_ + "/merged/shared"), "2");
  EXPECT_EQ(Read(root_ + "/merged/own0"), "0");
  EXPECT_FALSE(OpenFile(root_ + "/merged/new", O_CREAT | O_WRONLY).ok());
}

TEST_F(MountTest, OverlayWritesGoToTheUpper) {
  OverlayOptions options = Stack(2);
  options.upper = Dir("upper");
  options.work = Dir("work");
  options.without_sync = true;
  auto mount = Mount::Overlay(options, Dir("merged"));
  ASSERT_TRUE(mount.ok()) << mount.status();
  Put(root_ + "/merged/shared", "mine");
  fs::remove(root_ + "/merged/own0");
  ASSERT_TRUE(mount->Close().ok());
  EXPECT_EQ(Read(root_ + "/upper/shared"), "mine");
  EXPECT_EQ(Read(options.lower[1] + "/shared"), "1");
  struct stat st;
  ASSERT_EQ(::lstat((root_ + "/upper/own0").c_str(), &st), 0);
  EXPECT_TRUE(S_ISCHR(st.st_mode) && st.st_rdev == 0) << "a deletion is a whiteout";
}

TEST_F(MountTest, TakesFiveHundredLayers) {
  if (!KernelAppendsLowers()) GTEST_SKIP() << "kernel before 6.7";
  auto mount = Mount::Overlay(Stack(500), Dir("merged"));
  ASSERT_TRUE(mount.ok()) << mount.status();
  EXPECT_EQ(Read(root_ + "/merged/shared"), "499");
  EXPECT_EQ(Read(root_ + "/merged/own0"), "0");
}

TEST_F(MountTest, ClassicWayTakesAHundredLayersByRelativePaths) {
  OverlayOptions options = Stack(120);
  EXPECT_TRUE(FitsClassicMount(options));
  const std::string before = fs::current_path();
  auto target = internal::ClassicOverlayMount(options, Dir("merged"));
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(Read(root_ + "/merged/shared"), "119");
  EXPECT_EQ(fs::current_path(), before);
}

TEST_F(MountTest, ClassicWayRefusesWhatDoesNotFit) {
  OverlayOptions options;
  for (int i = 0; i < 900; ++i) options.lower.push_back(absl::StrCat(root_, "/layer", i, "/fs"));
  const absl::Status status = internal::ClassicOverlayMount(options, Dir("merged")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(MountTest, PathsWithOptionCharactersAreTakenLiterally) {
  OverlayOptions options;
  options.lower = {Dir("a,b:c\\d"), Dir("plain")};
  Put(options.lower[0] + "/f", "odd");
  {
    auto mount = Mount::Overlay(options, Dir("merged"));
    ASSERT_TRUE(mount.ok()) << mount.status();
    EXPECT_EQ(Read(root_ + "/merged/f"), "odd");
  }
  auto target = internal::ClassicOverlayMount(options, Dir("classic"));
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(Read(root_ + "/classic/f"), "odd");
}

TEST_F(MountTest, OverlayErrorSaysWhichDirectory) {
  OverlayOptions options;
  options.lower = {root_ + "/missing", Dir("there")};
  const absl::Status status = Mount::Overlay(options, Dir("merged")).status();
  ASSERT_FALSE(status.ok());
  if (KernelAppendsLowers()) {
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("missing"));
  }
}

TEST_F(MountTest, ABusyMountIsReportedByCloseAndDetachedByTheOwner) {
  const std::string target = Dir("target");
  auto mount = Mount::Tmpfs(target, "size=64k");
  ASSERT_TRUE(mount.ok()) << mount.status();
  auto open = OpenFile(target + "/f", O_CREAT | O_WRONLY);
  ASSERT_TRUE(open.ok());
  EXPECT_FALSE(mount->Close().ok());
  { Mount dropped = *std::move(mount); }
  EXPECT_THAT(*MountsBelow(root_), Not(Contains(target)));
}

TEST_F(MountTest, SweepDetachesNestedMounts) {
  const std::string outer = Dir("outer x");
  auto first = Mount::Tmpfs(outer, "");
  ASSERT_TRUE(first.ok());
  auto second = Mount::Tmpfs(Dir("outer x/inner"), "");
  ASSERT_TRUE(second.ok());
  first->Release();
  second->Release();
  ASSERT_TRUE(DetachMountsBelow(root_).ok());
  EXPECT_TRUE(MountsBelow(root_)->empty());
}

TEST_F(MountTest, AssignmentUnmountsTheOldOne) {
  auto a = Mount::Tmpfs(Dir("a"), "");
  auto b = Mount::Tmpfs(Dir("b"), "");
  ASSERT_TRUE(a.ok() && b.ok());
  *a = *std::move(b);
  EXPECT_THAT(*MountsBelow(root_), testing::ElementsAre(root_ + "/b"));
}

}  // namespace
}  // namespace kiln
