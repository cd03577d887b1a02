#include "store/root.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store/temp_dir.h"

namespace kiln::store {
namespace {

namespace fs = std::filesystem;

TEST(Root, MakesItsFoldersAndKeepsThem) {
  TempDir dir;
  const std::string path = dir.path() + "/a/b/";
  {
    auto root = Root::Open(path);
    ASSERT_TRUE(root.ok()) << root.status();
    EXPECT_EQ((*root)->path(), dir.path() + "/a/b");
    for (const std::string& folder :
         {(*root)->blobs_dir(), (*root)->snapshots_dir(), (*root)->index_dir(), (*root)->logs_dir(),
          (*root)->tmp_dir()})
      EXPECT_TRUE(fs::is_directory(folder)) << folder;
    EXPECT_FALSE((*root)->boot_id().empty());
    EXPECT_TRUE((*root)->SyncFiles().ok());
    std::ofstream((*root)->blobs_dir() + "/kept") << "x";
  }
  auto again = Root::Open(path);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(fs::exists((*again)->blobs_dir() + "/kept"));
}

TEST(Root, SecondUserIsRefusedAndToldWhoTheFirstIs) {
  TempDir dir;
  auto first = Root::Open(dir.path());
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = Root::Open(dir.path());
  ASSERT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()),
              testing::HasSubstr(absl::StrCat("in use by process ", ::getpid())));
  EXPECT_THAT(std::string(second.status().message()), testing::HasSubstr(dir.path()));
  first->reset();
  EXPECT_TRUE(Root::Open(dir.path()).ok());
}

TEST(Root, AFileInTheWayIsNamed) {
  TempDir dir;
  std::ofstream(dir.path() + "/snapshots") << "not a folder";
  auto root = Root::Open(dir.path());
  ASSERT_FALSE(root.ok());
  EXPECT_THAT(std::string(root.status().message()), testing::HasSubstr("/snapshots"));
}

TEST(Root, SweepsScratchOfEarlierRunsOnly) {
  TempDir dir;
  std::string old;
  {
    auto root = Root::Open(dir.path());
    ASSERT_TRUE(root.ok());
    old = (*root)->tmp_dir();
    fs::create_directories(old + "/deep/er");
    fs::create_directory_symlink(dir.path() + "/logs", old + "/link");
  }
  auto root = Root::Open(dir.path());
  ASSERT_TRUE(root.ok());
  std::ofstream((*root)->tmp_dir() + "/ours") << "x";
  std::ofstream((*root)->logs_dir() + "/log") << "x";
  ASSERT_TRUE((*root)->SweepTmp().ok());
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists((*root)->tmp_dir() + "/ours"));
  EXPECT_TRUE(fs::exists((*root)->logs_dir() + "/log")) << "a link was followed";
}

}  // namespace
}  // namespace kiln::store
