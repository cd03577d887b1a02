#include "store/base/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

namespace kiln {
namespace {

TEST(FdTest, OpensCloseOnExec) {
  auto fd = OpenFile("/dev/null", O_RDONLY);
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_TRUE(::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC);
}

TEST(FdTest, MoveLeavesNothingBehind) {
  auto fd = OpenFile("/dev/null", O_RDONLY);
  ASSERT_TRUE(fd.ok());
  const int number = fd->get();
  {
    Fd moved = *std::move(fd);
    EXPECT_EQ(moved.get(), number);
  }
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST(FdTest, MissingFileNamesThePath) {
  const auto fd = OpenFile("/no/such/file", O_RDONLY);
  EXPECT_EQ(fd.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(fd.status().message().find("/no/such/file"), absl::string_view::npos);
}

TEST(FdTest, AtomicWriteReplaces) {
  const std::string path = testing::TempDir() + "/kiln_fd_test_atomic";
  ASSERT_TRUE(WriteFileAtomic(path, "one", 0640).ok());
  ASSERT_TRUE(WriteFileAtomic(path, "two", 0640).ok());
  EXPECT_EQ(*ReadFileToString(path), "two");
  EXPECT_EQ(ReadFileToString(path, 2).status().code(), absl::StatusCode::kResourceExhausted);
  struct stat st;
  EXPECT_NE(::stat((path + ".tmp").c_str(), &st), 0);
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace kiln
