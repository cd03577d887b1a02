#include "daemon/start_pages.h"

#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kiln::daemon {
namespace {

// Pages of files that are mapped into this process, in kB.
int64_t FileResident() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kilobytes = -1;
  while (status >> word)
    if (word == "RssFile:") status >> kilobytes;
  return kilobytes;
}

// More than a page, and in no section that a start needs.
constexpr char kConstant[64 << 10] = "constant";

TEST(StartPages, AreDroppedAndComeBack) {
  const volatile char* constant = kConstant;
  for (size_t i = 0; i < sizeof(kConstant); i += 512) (void)constant[i];
  const int64_t before = FileResident();
  ASSERT_GT(before, 0);
  ASSERT_TRUE(DropStartPages().ok());
  EXPECT_LT(FileResident(), before);
  EXPECT_EQ(constant[0], 'c');
  // Code, constants, exceptions' tables and relocated data still work.
  EXPECT_THROW(throw std::string("thrown"), std::string);
  EXPECT_THAT(std::string("text"), testing::HasSubstr("ex"));
  EXPECT_TRUE(DropStartPages().ok());
}

}  // namespace
}  // namespace kiln::daemon
