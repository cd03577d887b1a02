#include "daemon/frontend/dockerfile/syntax/directive.h"

#include <string>

#include "gtest/gtest.h"

namespace kiln::daemon::dockerfile {
namespace {

struct SyntaxCase {
  const char* name;
  const char* text;
  const char* image;  // null: none
  const char* cmdline;
  int line;
};

class FindSyntaxTest : public testing::TestWithParam<SyntaxCase> {};

TEST_P(FindSyntaxTest, Finds) {
  const auto found = FindSyntax(GetParam().text);
  ASSERT_EQ(found.has_value(), GetParam().image != nullptr);
  if (!found.has_value()) return;
  EXPECT_EQ(found->image, GetParam().image);
  EXPECT_EQ(found->cmdline, GetParam().cmdline);
  EXPECT_EQ(found->line, GetParam().line);
}

INSTANTIATE_TEST_SUITE_P(
    Directives, FindSyntaxTest,
    testing::ValuesIn<SyntaxCase>({
        {"Plain", "# syntax=a/b:1\nFROM x\n", "a/b:1", "a/b:1", 1},
        {"Arguments", "#syntax = a/b:1 --x  y \r\n", "a/b:1", "a/b:1 --x  y", 1},
        {"Case", "# SYNTAX=a\n", "a", "a", 1},
        {"AfterOthers", "#escape=`\n# check=skip=all\n# syntax=a\n", "a", "a", 3},
        {"S9ByteOrderMark", "\xEF\xBB\xBF# syntax=a\n", "a", "a", 1},
        {"S10Shebang", "#!/bin/sh\n# syntax=x\n", "x", "x", 2},
        {"OneShebangOnly", "#!/bin/sh\n#!/bin/sh\n# syntax=x\n", nullptr, "", 0},
        {"ShebangAlone", "#!/bin/sh", nullptr, "", 0},
        {"S11AfterBlank", "\n# syntax=a\n", nullptr, "", 0},
        {"AfterComment", "# comment\n# syntax=a\n", nullptr, "", 0},
        {"AfterUnknownKey", "# key=value\n# syntax=a\n", nullptr, "", 0},
        {"AfterInstruction", "FROM x\n# syntax=a\n", nullptr, "", 0},
        {"Indented", " # syntax=a\n", nullptr, "", 0},
        {"NoValue", "# syntax=  \n", nullptr, "", 0},
        {"Repeated", "# syntax=a\n# syntax=b\n", "a", "a", 1},
        {"S12Slashes", "//syntax=foo\n", "foo", "foo", 1},
        {"SlashesAfterHash", "# escape=`\n// syntax=foo\n", nullptr, "", 0},
        {"SlashesAfterShebang", "#!/bin/x\n// syntax = foo bar\n", "foo", "foo bar", 2},
        {"S12Json", "{\"syntax\":\"foo\"}", "foo", "foo", 1},
        {"JsonOverLines", "{\n \"a\": [1, {}],\n \"syntax\": \"foo bar\"\n}\n", "foo bar",
         "foo bar", 1},
        {"JsonNoString", "{\"syntax\": 1}", nullptr, "", 0},
        {"S12JsonThenText", "{\"syntax\":\"foo\"}\nFROM x\n", nullptr, "", 0},
        {"Empty", "", nullptr, "", 0},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST(FindSyntax, HostileFiles) {
  EXPECT_FALSE(FindSyntax(std::string(1 << 20, '{')).has_value());
  EXPECT_FALSE(FindSyntax("# syntax=" + std::string(70000, 'x')).has_value());
  std::string nested = "{\"a\":";
  for (int i = 0; i < 200000; ++i) nested += "[";
  EXPECT_FALSE(FindSyntax(nested).has_value());
  EXPECT_FALSE(FindSyntax(std::string("{\0}", 3)).has_value());
}

TEST(FindCheck, ValueUpToTheFirstBlank) {
  EXPECT_EQ(FindCheck("# check=skip=A,B;error=true trailing\n"), "skip=A,B;error=true");
  EXPECT_EQ(FindCheck("#!/x\n# syntax=x\n# check = error=true\n"), "error=true");
  EXPECT_EQ(FindCheck("// check=skip=all\n"), std::nullopt);
  EXPECT_EQ(FindCheck("{\"check\":\"skip=all\"}"), std::nullopt);
}

TEST(DirectiveScanner, StopsForGood) {
  DirectiveScanner scanner;
  EXPECT_TRUE(scanner.Next("# syntax=a")->has_value());
  EXPECT_FALSE(scanner.done());
  EXPECT_FALSE(scanner.Next("# a comment")->has_value());
  EXPECT_TRUE(scanner.done());
  EXPECT_FALSE(scanner.Next("# escape=`")->has_value());
}

}  // namespace
}  // namespace kiln::daemon::dockerfile
