// Here-documents (dockerfile.md 1.5).
#include "daemon/frontend/dockerfile/syntax/heredoc.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/frontend/dockerfile/syntax/parsing.h"

namespace kiln::daemon::dockerfile {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

struct WordCase {
  const char* name;
  const char* word;
  const char* want;  // "fd name" and flags: x expand, c chomp; "" for none
};

class HeredocWordTest : public testing::TestWithParam<WordCase> {};

TEST_P(HeredocWordTest, Parts) {
  const auto heredoc = ParseHeredocWord(GetParam().word);
  ASSERT_TRUE(heredoc.ok()) << heredoc.status();
  std::string got;
  if (heredoc->has_value()) {
    got = absl::StrCat((*heredoc)->fd, " ", (*heredoc)->name, " ", (*heredoc)->expand ? "x" : "",
                       (*heredoc)->chomp ? "c" : "");
  }
  EXPECT_EQ(got, GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(Words, HeredocWordTest,
                         testing::ValuesIn<WordCase>({
                             {"Plain", "<<EOF", "0 EOF x"},
                             {"Chomp", "<<-EOF", "0 EOF xc"},
                             {"Descriptor", "3<<EOF", "3 EOF x"},
                             {"DescriptorChomp", "12<<-EOF", "12 EOF xc"},
                             {"HugeDescriptor", "99999999999999999999<<EOF", "0 EOF x"},
                             {"Blanks", "<< \tEOF", "0 EOF x"},
                             {"SingleQuotes", "<<'EOF'", "0 EOF "},
                             {"DoubleQuotes", "<<-\"EOF\"", "0 EOF c"},
                             {"PartlyQuoted", "<<E'O'F", "0 EOF "},
                             {"QuotedBlank", "<<'E F'", "0 E F "},
                             {"EscapedQuote", "<<E\\'F", "0 E'F x"},
                             {"EscapedBlank", "<<E\\ F", "0 E F x"},
                             {"Dollar", "<<$X", "0 $X x"},
                             {"Braces", "<<${X}", "0 ${X} x"},
                             {"Unicode", "<<ä", "0 ä x"},
                             {"FileLike", "<<some/file.txt", "0 some/file.txt x"},
                             {"OnlyDash", "<<-", ""},
                             {"NoName", "<<", ""},
                             {"EmptyQuotes", "<<''", ""},
                             {"Three", "<<<EOF", ""},
                             {"LaterOne", "<<a<b", ""},
                             {"WholeQuoted", "\"<<EOF\"", ""},
                             {"Prefix", "x<<EOF", ""},
                             {"OneLess", "<EOF", ""},
                             {"Nothing", "", ""},
                             {"TwoWords", "<<a b", ""},
                         }),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(HeredocWord, OpenQuote) { EXPECT_FALSE(ParseHeredocWord("<<'a").ok()); }

std::string Names(absl::string_view line) {
  const auto heredocs = FindHeredocs(line);
  if (!heredocs.ok()) return "error";
  std::vector<std::string> names;
  for (const Heredoc& heredoc : *heredocs) names.push_back(heredoc.name);
  return absl::StrJoin(names, "|");
}

TEST(FindHeredocs, Lines) {
  EXPECT_EQ(Names("RUN <<A cat <<B"), "A|B");
  EXPECT_EQ(Names("RUN cat<<A"), "");
  EXPECT_EQ(Names("RUN << A cat"), "A");
  EXPECT_EQ(Names("RUN echo \"<<A\" '<<B' \\<<C"), "");
  EXPECT_EQ(Names("RUN 3<<A 4<<B cat"), "A|B");
  EXPECT_EQ(Names("RUN echo $x ${y} <<A"), "A");
  EXPECT_EQ(Names("RUN cat <<A;"), "A;");
  // Quotes that do not close hide all of them.
  EXPECT_EQ(Names("RUN echo it's <<A"), "");
}

TEST(Heredoc, RunBodies) {
  const auto run =
      Only<dockerfile::Run>("RUN <<A cat <<-\"B\" # x\n\ta $x \\\n# no comment\nA\n\tb\r\n\tB\n");
  EXPECT_THAT(run.command.args, ElementsAre("<<A cat <<-\"B\" # x"));
  EXPECT_TRUE(run.command.shell_form);
  ASSERT_THAT(run.heredocs, SizeIs(2));
  EXPECT_EQ(run.heredocs[0].content, "\ta $x \\\n# no comment\n");
  EXPECT_TRUE(run.heredocs[0].expand);
  EXPECT_EQ(run.heredocs[1].content, "\tb\r\n");
  EXPECT_TRUE(run.heredocs[1].chomp);
  EXPECT_FALSE(run.heredocs[1].expand);
}

TEST(Heredoc, Terminators) {
  EXPECT_EQ(Only<dockerfile::Run>("RUN <<E\nE \n E\nxE\nE").heredocs[0].content, "E \n E\nxE\n");
  EXPECT_EQ(Only<dockerfile::Run>("RUN <<E\r\nx\r\nE\r\n").heredocs[0].content, "x\r\n");
  EXPECT_EQ(Only<dockerfile::Run>("RUN <<E\nE\n").heredocs[0].content, "");
  EXPECT_EQ(Only<dockerfile::Run>("RUN <<'E F'\nx\nE F\n").heredocs[0].content, "x\n");
  EXPECT_EQ(Only<dockerfile::Run>("RUN <<$X\ny\n$X\n").heredocs[0].content, "y\n");
  // Without "<<-" a tab is part of the line.
  EXPECT_EQ(Only<dockerfile::Run>("RUN <<E\n\tE\nE\n").heredocs[0].content, "\tE\n");
}

// Scenarios 20 and 22, as far as parsing goes.
TEST(Heredoc, S20S22Copy) {
  const Copy copy =
      Only<Copy>("COPY <<a x <<'b' <<-c double/\n$x\na\n$y 'q'\nb\n\t\tz\n\tt\tu\n\tc\n");
  EXPECT_THAT(copy.paths.sources, ElementsAre("x"));
  EXPECT_EQ(copy.paths.dest, "double/");
  ASSERT_THAT(copy.paths.inline_files, SizeIs(3));
  EXPECT_EQ(copy.paths.inline_files[0].name, "a");
  EXPECT_EQ(copy.paths.inline_files[0].data, "$x\n");
  EXPECT_TRUE(copy.paths.inline_files[0].expand);
  EXPECT_EQ(copy.paths.inline_files[1].data, "$y 'q'\n");
  EXPECT_FALSE(copy.paths.inline_files[1].expand);
  EXPECT_EQ(copy.paths.inline_files[2].data, "z\nt\tu\n");
}

TEST(Heredoc, S25Descriptors) {
  const auto run = Only<dockerfile::Run>("RUN 3<<IN1 4<<IN2 awk x\nhello\nIN1\nworld\nIN2\n");
  EXPECT_EQ(run.heredocs[0].fd, 3);
  EXPECT_EQ(run.heredocs[1].fd, 4);
  EXPECT_EQ(run.heredocs[1].content, "world\n");
}

TEST(Heredoc, NotAllowed) {
  EXPECT_EQ(ErrorOf("FROM a\nCOPY x <<E\nb\nE\n"),
            "dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination");
  EXPECT_EQ(ErrorOf("FROM a\nADD x <<E\nb\nE\n"),
            "dockerfile parse error on line 2: ADD cannot accept a heredoc as a destination");
  // In exec form it is text.
  EXPECT_THAT(Only<dockerfile::Run>("RUN [\"cat\", \"<<E\"]").heredocs, IsEmpty());
  EXPECT_THAT(Only<Copy>("COPY [\"<<E\", \"/x\"]").paths.sources, ElementsAre("<<E"));
  // As in instructions that take none.
  EXPECT_THAT(Only<Cmd>("CMD cat <<E").command.args, ElementsAre("cat <<E"));
  EXPECT_EQ(ErrorOf("FROM a\nENV x=1 <<E\n"),
            "Syntax error - can't find = in \"<<E\". Must be of the form: name=value");
}

// Arguments of COPY are cut at blanks before anything else.
TEST(Heredoc, BlankAfterTheMarkInCopy) {
  const Copy copy = Only<Copy>("COPY << EOF d\nx\nEOF\n");
  EXPECT_THAT(copy.paths.sources, ElementsAre("<<", "EOF"));
  EXPECT_THAT(copy.paths.inline_files, IsEmpty());
}

TEST(Heredoc, BackslashWhateverTheEscapeDirective) {
  const auto run = Only<dockerfile::Run>("RUN <<E\\ F\nx\nE F\n", "#escape=`\n");
  EXPECT_EQ(run.heredocs[0].name, "E F");
}

TEST(Heredoc, S27Onbuild) {
  const Onbuild onbuild = Only<Onbuild>("ONBUILD RUN <<-A cat <<B\n\tx\n\tA\ny\nB\n");
  EXPECT_EQ(onbuild.trigger, "RUN <<-A cat <<B\n\tx\nA\ny\nB");
  const auto run = ParseTrigger(onbuild.trigger, {5, 5});
  ASSERT_TRUE(run.ok()) << run.status();
  const auto& heredocs = std::get<dockerfile::Run>(run->body).heredocs;
  ASSERT_THAT(heredocs, SizeIs(2));
  EXPECT_EQ(heredocs[0].content, "\tx\n");
  EXPECT_EQ(heredocs[1].content, "y\n");
}

TEST(ChompTabs, EveryLine) {
  EXPECT_EQ(ChompTabs("\t\ta\tb\n\tc\n \td\n\t\n\t"), "a\tb\nc\n \td\n\n");
}

}  // namespace
}  // namespace kiln::daemon::dockerfile
