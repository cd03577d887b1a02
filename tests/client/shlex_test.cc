#include "client/llb/shlex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kiln::client::llb {
namespace {

using testing::ElementsAre;

TEST(SplitShellWordsTest, QuotesBackslashesAndComments) {
  EXPECT_THAT(*SplitShellWords("cp -a  /src /dest"), ElementsAre("cp", "-a", "/src", "/dest"));
  EXPECT_THAT(*SplitShellWords(R"(a "b c"'d' e\ f "" # rest)"),
              ElementsAre("a", "b cd", "e f", ""));
  EXPECT_THAT(*SplitShellWords(R"(printf '%s\n' "a\"b")"), ElementsAre("printf", "%s\\n", "a\"b"));
  EXPECT_THAT(*SplitShellWords("  "), ElementsAre());
}

TEST(SplitShellWordsTest, RefusesWhatIsNotClosed) {
  EXPECT_EQ(SplitShellWords("echo 'a").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SplitShellWords("echo a\\").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kiln::client::llb
