#include "daemon/image/raw_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(RawJsonTest, MembersKeepOrderAndNumbers) {
  const auto members = JsonMembers(
      " { \"b\" : 1.50 , \"a\\u0062\" : [ 1, {\"x\" : null} ],"
      "\"c\":\"}, \\\" \" } ");
  ASSERT_TRUE(members.ok()) << members.status();
  EXPECT_THAT(*members, ElementsAre(Pair("b", "1.50"), Pair("ab", "[1,{\"x\":null}]"),
                                    Pair("c", "\"}, \\\" \"")));
}

TEST(RawJsonTest, LastOfARepeatedNameWins) {
  EXPECT_THAT(*JsonMembers("{\"a\":1,\"b\":2,\"a\":3}"),
              ElementsAre(Pair("a", "3"), Pair("b", "2")));
}

TEST(RawJsonTest, EmptyOnes) {
  EXPECT_THAT(*JsonMembers("{}"), IsEmpty());
  EXPECT_THAT(*JsonItems("[ ]"), IsEmpty());
  EXPECT_THAT(*JsonItems("null"), IsEmpty());
  EXPECT_THAT(*JsonItems("[1, [2, 3], \"a,b\"]"), ElementsAre("1", "[2,3]", "\"a,b\""));
}

TEST(RawJsonTest, RefusesWhatIsNoObject) {
  for (const char* text : {"", "null", "[]", "\"a\"", "{", "{\"a\"}", "{\"a\":1,}", "{} {}"})
    EXPECT_EQ(JsonMembers(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  for (const char* text : {"", "{}", "[1", "3"})
    EXPECT_EQ(JsonItems(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  EXPECT_EQ(JsonItems(deep).status().message(), "JSON nests deeper than 64");
}

TEST(RawJsonTest, CompactEscapesAsGo) {
  EXPECT_EQ(CompactJson("{\"a\": \"<&>\xe2\x80\xa8 \\\"\"}"),
            "{\"a\":\"\\u003c\\u0026\\u003e\\u2028 \\\"\"}");
}

TEST(RawJsonTest, IndentAsGo) {
  EXPECT_EQ(IndentJson("{\"a\":[],\"b\":{},\"c\":[1,{\"d\":\"x:,{\"}]}"),
            "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": \"x:,{\"\n"
            "    }\n  ]\n}");
}

}  // namespace
}  // namespace kiln::daemon
