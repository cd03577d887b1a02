#include "client/llb/go_path.h"

#include <gtest/gtest.h>

namespace kiln::client::llb {
namespace {

TEST(CleanPathTest, EqualsGoPathClean) {
  EXPECT_EQ(CleanPath(""), ".");
  EXPECT_EQ(CleanPath("/"), "/");
  EXPECT_EQ(CleanPath("//a//b/"), "/a/b");
  EXPECT_EQ(CleanPath("./a/../b"), "b");
  EXPECT_EQ(CleanPath("../../a"), "../../a");
  EXPECT_EQ(CleanPath("a/.."), ".");
  EXPECT_EQ(CleanPath("/../a"), "/a");
}

TEST(JoinPathTest, EqualsGoPathJoin) {
  EXPECT_EQ(JoinPath("/a", "b/../c"), "/a/c");
  EXPECT_EQ(JoinPath("", "b/"), "b");
  EXPECT_EQ(JoinPath("/", "/x"), "/x");
  EXPECT_EQ(JoinPath("", ""), "");
}

TEST(BasePathTest, EqualsGoPathBase) {
  EXPECT_EQ(BasePath(""), ".");
  EXPECT_EQ(BasePath("//"), "/");
  EXPECT_EQ(BasePath("/m/"), "m");
  EXPECT_EQ(BasePath("a/../.."), "..");
  EXPECT_EQ(BasePath("a"), "a");
}

}  // namespace
}  // namespace kiln::client::llb
