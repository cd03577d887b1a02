#include "daemon/registry/challenge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::Pair;
using testing::UnorderedElementsAre;

TEST(ChallengeTest, SeveralInOneList) {
  const auto all = ParseChallenges(
      R"(Basic realm="a, b", Bearer REALM="https://x/t?q=\"1\"",service=s , scope="r:a:pull r:b:pull", Negotiate)");
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].scheme, "basic");
  EXPECT_THAT(all[0].parameters, ElementsAre(Pair("realm", "a, b")));
  EXPECT_EQ(all[1].scheme, "bearer");
  EXPECT_THAT(all[1].parameters,
              UnorderedElementsAre(Pair("realm", "https://x/t?q=\"1\""), Pair("service", "s"),
                                   Pair("scope", "r:a:pull r:b:pull")));
  EXPECT_EQ(all[2].scheme, "negotiate");
  EXPECT_EQ(all[2].Parameter("realm"), "");
}

TEST(ChallengeTest, WhatCannotBeReadEndsTheList) {
  for (const char* text : {"", " , ,", "\"x\"", "=", "Bearer realm=\"open", "Bearer \x01"})
    EXPECT_LE(ParseChallenges(text).size(), 1u) << text;
}

TEST(ScopeTest, P15_OneSpelling) {
  EXPECT_THAT(NormalizeScopes({"repository:a:push,pull", "repository:a:pull"}),
              ElementsAre("repository:a:pull,push"));
  EXPECT_THAT(NormalizeScopes({"repository:b:pull", "", "repository:a/c:pull", "registry"}),
              ElementsAre("registry", "repository:a/c:pull", "repository:b:pull"));
}

}  // namespace
}  // namespace kiln::daemon
