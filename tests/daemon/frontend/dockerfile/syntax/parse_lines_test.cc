// Physical lines, continuations, comments, directives, and the errors with their places
// (dockerfile.md 1.1, 1.2, 1.6).
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/frontend/dockerfile/syntax/parsing.h"

namespace kiln::daemon::dockerfile {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// The code of all instructions, FROM included, joined by '|'.
std::string Codes(const Document& document) {
  std::vector<std::string> codes;
  for (const auto& arg : document.global_args) codes.push_back(arg.text.code);
  for (const Stage& stage : document.stages) {
    codes.push_back(stage.text.code);
    for (const Instruction& instruction : stage.instructions)
      codes.push_back(instruction.text.code);
  }
  return absl::StrJoin(codes, "|");
}

struct LinesCase {
  const char* name;
  const char* text;
  const char* want;
};

class LinesTest : public testing::TestWithParam<LinesCase> {};

TEST_P(LinesTest, Codes) { EXPECT_EQ(Codes(MustParse(GetParam().text)), GetParam().want); }

INSTANTIATE_TEST_SUITE_P(
    Continuations, LinesTest,
    testing::ValuesIn<LinesCase>({
        {"NoNewlineAtEnd", "FROM a", "FROM a"},
        {"CrLf", "FROM a\r\nRUN b \\\r\n  c\r\n", "FROM a|RUN b   c"},
        {"ByteOrderMark",
         "\xEF\xBB\xBF"
         "FROM a\n",
         "FROM a"},
        {"LeadingBlanks", "  FROM a\n\t RUN b  \n", "FROM a|RUN b"},
        {"Joined", "FROM a\nRUN b\\\nc\\\n  d\n", "FROM a|RUN bc  d"},
        {"BlanksAfterEscape", "FROM a\nRUN b\\ \t\nc\n", "FROM a|RUN bc"},
        {"EscapeAlone", "FROM a\nRUN b\\\n\\\n  \\\nc\n", "FROM a|RUN b  c"},
        {"EscapeAloneFirst", "\\\nFROM a\n", "FROM a"},
        {"TwoEscapes", "FROM a\nENV b c\\\\\nENV d e\n", "FROM a|ENV b c\\\\|ENV d e"},
        {"ThreeEscapes", "FROM a\nENV b c\\\\\\\nENV d e\n", "FROM a|ENV b c\\\\\\|ENV d e"},
        {"EndOfFile", "FROM a\nRUN b \\", "FROM a|RUN b"},
        {"CommentsInside", "FROM a\nRUN b \\\n# no\n  # neither \\\nc\n", "FROM a|RUN b c"},
        {"BlankLinesInside", "FROM a\nRUN b \\\n\n  \nc\n", "FROM a|RUN b c"},
        {"HashLater", "FROM a\nRUN b # c\n", "FROM a|RUN b # c"},
        {"KeywordOverLines", "FROM a\nru\\\nn b\n", "FROM a|run b"},
        // Scenario 15.
        {"S15", "FROM a\nENV C trailing\\\\backslash\\\\\nENV D x\n",
         "FROM a|ENV C trailing\\\\backslash\\\\|ENV D x"},
        // Scenario 16.
        {"S16", "FROM a\nRUN b && \\\n# comment\n\n  c && \\\n\n  d\n",
         "FROM a|RUN b &&   c &&   d"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    EscapeDirective, LinesTest,
    testing::ValuesIn<LinesCase>({
        // Scenario 14.
        {"S14", "# escape=`\nFROM a\nCOPY a c:\\\nRUN b `\n c\n", "FROM a|COPY a c:\\|RUN b  c"},
        {"SpacesAndCase", " #  EsCaPe =  `  \nFROM a\nRUN b`\nc\n", "FROM a|RUN bc"},
        {"AfterSyntax", "#syntax=x\n#escape=`\nFROM a\nRUN b`\nc\n", "FROM a|RUN bc"},
        {"AfterComment", "# hello\n#escape=`\nFROM a\nRUN b\\\nc\n", "FROM a|RUN bc"},
        {"AfterUnknown", "# other=x\n#escape=`\nFROM a\nRUN b\\\nc\n", "FROM a|RUN bc"},
        {"AfterBlank", "\n#escape=`\nFROM a\nRUN b\\\nc\n", "FROM a|RUN bc"},
        {"AfterFrom", "FROM a\n#escape=`\nRUN b\\\nc\n", "FROM a|RUN bc"},
        // The main parser knows no shebang (scenario 10).
        {"S10AfterShebang", "#!/bin/sh\n#escape=`\nFROM a\nRUN b\\\nc\n", "FROM a|RUN bc"},
        {"Backslash", "#escape=\\\nFROM a\nRUN b\\\nc\n", "FROM a|RUN bc"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

struct ErrorCase {
  const char* name;
  const char* text;
  const char* want;
  const char* location;  // "first-last" of each
};

class LineErrorTest : public testing::TestWithParam<ErrorCase> {};

TEST_P(LineErrorTest, MessageAndPlace) {
  std::string location;
  EXPECT_EQ(ErrorOf(GetParam().text, &location), GetParam().want);
  EXPECT_EQ(location, GetParam().location);
}

INSTANTIATE_TEST_SUITE_P(
    Errors, LineErrorTest,
    testing::ValuesIn<ErrorCase>({
        {"Nothing", "", "file with no instructions", "0-0"},
        {"S2", "# one\n\n# two\n", "file with no instructions", "3-3"},
        {"S4", "RUN x\nFROM a\n", "no build stage in current context", "1-1"},
        {"S5", "FROM a\nFNTRYPOINT [\"x\"]\n",
         "dockerfile parse error on line 2: unknown instruction: FNTRYPOINT "
         "(did you mean ENTRYPOINT?)",
         "2-2"},
        {"S6", "FROM a\n\n\nBADCMD\n",
         "dockerfile parse error on line 4: unknown instruction: BADCMD", "4-4"},
        {"S7", "FROM a\nrun --x wh\\\nat\n", "dockerfile parse error on line 2: unknown flag: --x",
         "2-3"},
        {"S13", "# escape=\\\n# escape=`\nFROM a\n", "only one escape parser directive can be used",
         "1-1"},
        {"TwoSyntax", "# syntax=a\n#syntax=b\nFROM a\n",
         "only one syntax parser directive can be used", "1-1"},
        {"BadEscape", "# escape=x\nFROM a\n", "invalid escape token 'x' does not match ` or \\",
         "0-0"},
        {"LongEscape", "#check=skip=all\n# escape=``\nFROM a\n",
         "invalid escape token '``' does not match ` or \\", "1-1"},
        {"LowerCaseHint", "FROM a\nrunn x\n",
         "dockerfile parse error on line 2: unknown instruction: runn (did you mean run?)", "2-2"},
        {"MixedCaseHint", "FROM a\nRunn x\n",
         "dockerfile parse error on line 2: unknown instruction: Runn (did you mean run?)", "2-2"},
        {"EscapeAloneIsAnInstruction", "FROM a\n\\\n",
         "dockerfile parse error on line 2: unknown instruction: ", "2-2"},
        // Lines are read before instructions: their errors win.
        {"LinesWin", "FNTRYPOINT x\nFROM a\nENV x\n", "ENV must have two arguments", "3-3"},
        {"LinesWinOverStage", "RUN x\nRUN [1]\n",
         "when using JSON array syntax, arrays must be comprised of strings only", "2-2"},
        {"HeredocRange", "FROM a\nRUN --x <<E\nb\nE\n",
         "dockerfile parse error on line 2: unknown flag: --x", "2-4"},
        // Scenario 26.
        {"S26", "FROM a\nRUN <<E \\\n c\nb\n", "unterminated heredoc", "2-4"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Lines, LongLines) {
  const std::string fits(65535 - 5, 'x');
  EXPECT_EQ(MustParse("FROM " + fits + "\n").stages[0].base, fits);
  EXPECT_EQ(MustParse("FROM " + fits).stages[0].base, fits);
  const std::string long_line = "FROM " + fits + "x";
  std::string location;
  EXPECT_EQ(ErrorOf(long_line, &location),
            "dockerfile line greater than max allowed size of 65535");
  EXPECT_EQ(location, "1-1");
  // What comes before was read, and its errors win.
  EXPECT_EQ(ErrorOf("FROM a\nRUN b \\\n" + long_line, &location),
            "dockerfile line greater than max allowed size of 65535");
  EXPECT_EQ(location, "3-3");
  EXPECT_EQ(ErrorOf("FROM a\nENV b\n" + long_line), "ENV must have two arguments");
  EXPECT_EQ(ErrorOf("FROM a\nRUN <<E\n" + long_line + "\nE\n"), "unterminated heredoc");
  // The joined line may be longer.
  const std::string part(60000, 'x');
  EXPECT_EQ(Only<dockerfile::Run>("RUN " + part + "\\\n" + part).command.args[0].size(), 120000);
}

TEST(Lines, S16EmptyContinuations) {
  const Document document = MustParse("FROM a\nRUN b \\\n\n  c\nRUN d \\\n# x\n e\nRUN f \\\n\n\n");
  EXPECT_THAT(document.empty_continuations, ElementsAre(4, 10));
}

TEST(Lines, RangesAndKeywords) {
  const Document document =
      MustParse("ARG g\n\nfrom a \\\n  as b\nRUN <<E\nbody\nE\nCopy a \\\n b\n");
  EXPECT_EQ(document.global_args[0].text.lines, (LineRange{1, 1}));
  const Stage& stage = document.stages[0];
  EXPECT_EQ(stage.text.lines, (LineRange{3, 4}));
  EXPECT_EQ(stage.text.keyword, "from");
  EXPECT_EQ(stage.instructions[0].text.lines, (LineRange{5, 7}));
  EXPECT_EQ(stage.instructions[0].text.code, "RUN <<E");
  EXPECT_EQ(stage.instructions[1].text.lines, (LineRange{8, 9}));
  EXPECT_EQ(stage.instructions[1].text.keyword, "Copy");
}

TEST(Lines, Comments) {
  const Document document = MustParse(
      "# syntax=x\n"  // a directive is no comment
      "# first\n"
      "\n"  // does not separate
      "#second \n"
      "  # indented\n"
      "FROM a AS b\n"
      "# gone\n"
      "#\n"
      "# kept\n"
      "RUN c \\\n"
      "# inside\n"
      "  d\n"
      "RUN e\n");
  const Stage& stage = document.stages[0];
  EXPECT_THAT(stage.text.comments, ElementsAre("first", "second", "# indented"));
  EXPECT_THAT(stage.instructions[0].text.comments, ElementsAre("kept"));
  EXPECT_THAT(stage.instructions[1].text.comments, IsEmpty());
}

TEST(Lines, Descriptions) {
  const Document document = MustParse(
      "# x about x\n# y about y\n# x again\nARG x=1 y z\n"
      "# Base is wrong\n# base the rest\nFROM a AS Base\n"
      "# inner of the stage\nARG inner\n"
      "# a not for the unnamed\nFROM a\n");
  const auto& args = document.global_args[0].arg.args;
  EXPECT_EQ(args[0].description, "about x");
  EXPECT_EQ(args[1].description, "about y");
  EXPECT_EQ(args[2].description, "");
  EXPECT_EQ(document.stages[0].description, "the rest");
  EXPECT_EQ(std::get<Arg>(document.stages[0].instructions[0].body).args[0].description,
            "of the stage");
  EXPECT_EQ(document.stages[1].description, "");
}

TEST(Lines, S6InstructionsBeforeAnErrorAreKept) {
  Document document;
  EXPECT_FALSE(Parse("ARG a\nFROM x AS Stage\nMAINTAINER me\nBADCMD\nRUN b\n", &document).ok());
  EXPECT_EQ(document.global_args.size(), 1);
  ASSERT_EQ(document.stages.size(), 1);
  EXPECT_EQ(document.stages[0].written_name, "Stage");
  EXPECT_EQ(document.stages[0].instructions.size(), 1);
}

TEST(Lines, EscapeIsTold) {
  EXPECT_EQ(MustParse("FROM a\n").escape, '\\');
  EXPECT_EQ(MustParse("#escape=`\nFROM a\n").escape, '`');
}

}  // namespace
}  // namespace kiln::daemon::dockerfile
