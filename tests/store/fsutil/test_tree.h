#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "store/base/fd.h"
#include "store/fsutil/directory_target.h"

namespace kiln::fsutil {

// A directory for one test, removed at its end.
class TestTree {
 public:
  TestTree() {
    std::string path = absl::StrCat(::testing::TempDir(), "/fsutil-XXXXXX");
    if (::mkdtemp(path.data()) == nullptr) std::abort();
    path_ = path;
  }
  ~TestTree() { (void)RemoveTree(AT_FDCWD, path_); }
  TestTree(const TestTree&) = delete;
  TestTree& operator=(const TestTree&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& rel) const { return absl::StrCat(path_, "/", rel); }

  // Times are set so that two trees made alike compare alike.
  void File(const std::string& rel, absl::string_view data, int mode = 0644,
            int64_t seconds = 1000) const {
    absl::StatusOr<Fd> fd = OpenFile(*this / rel, O_WRONLY | O_CREAT | O_TRUNC, mode);
    ASSERT_TRUE(fd.ok()) << fd.status();
    ASSERT_TRUE(WriteAll(fd->get(), data).ok());
    ASSERT_EQ(::fchmod(fd->get(), static_cast<mode_t>(mode)), 0);
    Time(rel, seconds);
  }
  void Dir(const std::string& rel, int mode = 0755) const {
    ASSERT_EQ(::mkdir((*this / rel).c_str(), static_cast<mode_t>(mode)), 0) << rel;
  }
  void Link(const std::string& rel, const std::string& target) const {
    ASSERT_EQ(::symlink(target.c_str(), (*this / rel).c_str()), 0) << rel;
    Time(rel, 1000);
  }
  void Hard(const std::string& rel, const std::string& existing) const {
    ASSERT_EQ(::link((*this / existing).c_str(), (*this / rel).c_str()), 0) << rel;
  }
  void Time(const std::string& rel, int64_t seconds) const {
    const struct timespec times[2] = {{seconds, 0}, {seconds, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, (*this / rel).c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
  }
  std::string Read(const std::string& rel) const {
    absl::StatusOr<std::string> data = ReadFileToString(*this / rel);
    return data.ok() ? *data : data.status().ToString();
  }
  bool Exists(const std::string& rel) const {
    struct stat st;
    return ::lstat((*this / rel).c_str(), &st) == 0;
  }
  struct stat Lstat(const std::string& rel) const {
    struct stat st = {};
    EXPECT_EQ(::lstat((*this / rel).c_str(), &st), 0) << rel;
    return st;
  }

 private:
  std::string path_;
};

}  // namespace kiln::fsutil
