#include "store/fsutil/listing_validator.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kiln::fsutil {
namespace {

using testing::HasSubstr;

Stat Make(std::string path, uint32_t mode = 0644, std::string linkname = "") {
  Stat stat;
  stat.path = std::move(path);
  stat.mode = mode;
  stat.linkname = std::move(linkname);
  return stat;
}
Stat Dir(std::string path) { return Make(std::move(path), kModeDir | 0755); }

TEST(ComparePath, SlashSortsFirst) {
  EXPECT_LT(ComparePath("a", "a/x"), 0);
  EXPECT_LT(ComparePath("a/x", "a-b"), 0);
  EXPECT_GT(ComparePath("a-b", "a/x"), 0);
  EXPECT_EQ(ComparePath("a/b", "a/b"), 0);
  EXPECT_LT(ComparePath("a", "\xff"), 0);
}

TEST(ListingValidator, AcceptsAWalk) {
  ListingValidator validator;
  for (const Stat& stat :
       {Dir("a"), Make("a/x"), Dir("a/y"), Make("a/y/z"), Make("a/z"), Make("a-b"),
        Make("b", kModeSymlink | 0777, "/etc"), Make("c", 0644, "a/x"), Make("\xff")})
    EXPECT_TRUE(validator.Check(stat).ok()) << stat.path << validator.Check(stat);
}

struct BadCase {
  const char* name;
  std::vector<Stat> stats;
  const char* want;
};
class BadListingTest : public testing::TestWithParam<BadCase> {};

TEST_P(BadListingTest, LastEntryIsRefused) {
  ListingValidator validator;
  const std::vector<Stat>& stats = GetParam().stats;
  for (size_t i = 0; i + 1 < stats.size(); ++i) ASSERT_TRUE(validator.Check(stats[i]).ok());
  const absl::Status status = validator.Check(stats.back());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(GetParam().want));
}

Stat Sized(int64_t size) {
  Stat stat = Make("a");
  stat.size = size;
  return stat;
}

INSTANTIATE_TEST_SUITE_P(
    Protocol, BadListingTest,
    testing::ValuesIn<BadCase>(
        {{"Order", {Make("b"), Make("a")}, "changes out of order: \"a\" \"b\""},
         {"Twice", {Make("a"), Make("a")}, "changes out of order: \"a\" \"a\""},
         {"BackInto", {Dir("a"), Make("b"), Make("a/x")}, "changes out of order: \"a/x\" \"b\""},
         {"NoParent", {Make("a/x")}, "changes out of order: \"a/x\""},
         {"ParentIsFile", {Make("a"), Make("a/x")}, "changes out of order: \"a/x\""},
         {"ParentIsLink",
          {Make("a", kModeSymlink | 0777, "/etc"), Make("a/x")},
          "changes out of order: \"a/x\""},
         {"Absolute", {Make("/etc/passwd")}, "\"/etc/passwd\": absolute path"},
         {"DotDot", {Make("..")}, "escapes the root"},
         {"DotDotFirst", {Make("../x")}, "escapes the root"},
         {"DotDotWithin", {Dir("a"), Make("a/../../x")}, "escapes the root"},
         {"Dot", {Make(".")}, "unclean path"},
         {"DoubleSlash", {Dir("a"), Make("a//b")}, "unclean path"},
         {"TrailingSlash", {Dir("a/")}, "unclean path"},
         {"Empty", {Make("")}, "empty path"},
         {"Nul", {Make(std::string("a\0b", 3))}, "NUL byte"},
         {"UnknownLink", {Make("b", 0644, "a")}, "invalid link \"b\" to unknown path: \"a\""},
         {"LinkToDir", {Dir("a"), Make("b", 0644, "a")}, "invalid link"},
         {"LinkToSymlink",
          {Make("a", kModeSymlink | 0777, "x"), Make("b", 0644, "a")},
          "invalid link"},
         {"LinkToLink",
          {Make("a"), Make("b", 0644, "a"), Make("c", 0644, "b")},
          "invalid link \"c\""},
         {"LinkToItself", {Make("a", 0644, "a")}, "invalid link"},
         {"LinkOutside", {Make("a", 0644, "../../etc/shadow")}, "invalid link"},
         {"NegativeSize", {Sized(-1)}, "invalid size -1 of \"a\""},
         {"TwoTypes", {Make("a", kModeDir | kModeSymlink, "x")}, "invalid mode"},
         {"CharNoDevice", {Make("a", kModeCharDevice)}, "invalid mode"},
         {"NoTarget", {Make("a", kModeSymlink | 0777)}, "without a target: \"a\""}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace kiln::fsutil
