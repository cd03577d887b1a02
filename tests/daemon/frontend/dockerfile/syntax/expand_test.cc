#include "daemon/frontend/dockerfile/syntax/expand.h"

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kiln::daemon::dockerfile {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::map<std::string, std::string, std::less<>>& Variables() {
  static const auto& variables = *new std::map<std::string, std::string, std::less<>>{
      {"a", "one"},         {"b", "two"},        {"empty", ""},       {"path", "/usr/local/bin"},
      {"spaces", " x  y "}, {"über", "green"},   {"quoted", "'q'"},   {"lines", "ab\ncd\nab"},
      {"stars", "a*b?c"},   {"tgz", "x.tar.gz"}, {"word", "a-b-a-b"}, {"unicode", "äöü"},
      {"slash", "a/b/c"},   {"brace", "a}b"},    {"back", "a\\b"}};
  return variables;
}

std::optional<absl::string_view> LookUp(absl::string_view name) {
  const auto found = Variables().find(std::string_view(name.data(), name.size()));
  if (found == Variables().end()) return std::nullopt;
  return found->second;
}

// The expansion, or the error without what was being processed.
std::string Expand(absl::string_view text, const ExpandOptions& options = {}) {
  const auto expansion = ExpandWord(text, options, LookUp);
  if (expansion.ok()) return *expansion;
  const std::string message(expansion.status().message());
  EXPECT_THAT(message, testing::StartsWith("failed to process \""));
  return absl::StrCat("ERROR", message.substr(message.find("\": ") + 1));
}

struct ExpandCase {
  const char* name;
  const char* text;
  const char* want;
};

class ExpandTest : public testing::TestWithParam<ExpandCase> {};

TEST_P(ExpandTest, Text) { EXPECT_EQ(Expand(GetParam().text), GetParam().want); }

auto Name = [](const auto& test) { return std::string(test.param.name); };

INSTANTIATE_TEST_SUITE_P(
    Quotes, ExpandTest,
    testing::ValuesIn<ExpandCase>({
        {"Nothing", "", ""},
        {"Plain", "a b  c", "a b  c"},
        {"Single", "x'$a \\'y", "x$a \\y"},
        {"SingleInDouble", "\"it's\"", "it's"},
        {"DoubleInSingle", "'say \"x\"'", "say \"x\""},
        {"Double", "\"$a b\"", "one b"},
        {"EscapeOutside", "\\$a\\'\\x", "$a'x"},
        {"EscapeInDouble", R"("\$a \" \\ \x")", R"($a " \ \x)"},
        {"EscapeAtEnd", "a\\", "a"},
        {"EscapedEscapeAtEnd", "a\\\\", "a\\"},
        {"EscapedEscapeBeforeReference", "\\\\$a", "\\one"},
        {"OpenSingle", "x'y",
         "ERROR: unexpected end of statement while looking for matching single-quote"},
        {"OpenDouble", "x\"y",
         "ERROR: unexpected end of statement while looking for matching double-quote"},
        {"OpenDoubleByEscape", "\"x\\\"",
         "ERROR: unexpected end of statement while looking for matching double-quote"},
        {"OpenDoubleAtEscape", "\"x\\",
         "ERROR: unexpected end of statement while looking for matching double-quote"},
        {"ValueKeepsQuotes", "$quoted", "'q'"},
        {"Here", "a << b <c", "a << b <c"},
        {"BrokenUtf8", "a\xff'\xc3'", "a\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"ByteOrderMark", "\xEF\xBB\xBFx$a", "xone"},
    }),
    Name);

INSTANTIATE_TEST_SUITE_P(
    References, ExpandTest,
    testing::ValuesIn<ExpandCase>({
        {"Bare", "$a-$b", "one-two"},
        {"Braces", "${a}b", "oneb"},
        {"LongestName", "$ab", ""},
        {"NameEnds", "$a.b", "one.b"},
        {"Unset", "x${nope}y$nope", "xy"},
        {"Empty", "x${empty}y", "xy"},
        {"Underscore", "$_a$a_", ""},
        {"UnicodeName", "$über", "green"},
        {"UnicodeNameInBraces", "${über}", "green"},
        {"NoName", "$ $. $", "$ $. $"},
        {"NoNameBeforeQuote", "\"$\"", "$"},
        {"Positional", "$1a$12", "a"},
        {"Special", "$@$*$#$?$-$$$!", ""},
        {"SpecialIsOneCharacter", "$@a", "a"},
        {"SpecialInBraces", "${?}${@:-x}", "x"},
        {"EscapedOpensNothing", "\\${a}", "${a}"},
        {"ClosingBraceAlone", "${a}}", "one}"},
        {"NothingInBraces", "${}", "ERROR: syntax error: bad substitution"},
        {"ColonInBraces", "${:-x}", "ERROR: syntax error: bad substitution"},
        {"DoubleBraces", "${{a}}", "ERROR: syntax error: bad substitution"},
        {"OpenBrace", "${", "ERROR: syntax error: missing '}'"},
        {"OpenName", "x${a", "ERROR: syntax error: missing '}'"},
        {"OpenColon", "${a:", "ERROR: syntax error: missing '}'"},
        {"OpenWord", "${a:-b", "ERROR: syntax error: missing '}'"},
        {"OpenInner", "${a:-${b}", "ERROR: syntax error: missing '}'"},
        {"OpenQuoteInWord", "${a:-'b}", "ERROR: syntax error: missing '}'"},
        {"DotInBraces", "${a.b}", "ERROR: unsupported modifier (.) in substitution"},
        {"BlankInBraces", "${ a}", "ERROR: unsupported modifier ( ) in substitution"},
        {"Assign", "${a:=b}", "ERROR: unsupported modifier (:=) in substitution"},
        {"PlainAssign", "${a=b}", "ERROR: unsupported modifier (=) in substitution"},
        {"ColonHash", "${a:#b}", "ERROR: unsupported modifier (:#) in substitution"},
        {"ColonSlash", "${a:/b/c}", "ERROR: unsupported modifier (:/) in substitution"},
        {"UnicodeModifier", "${a:ä}", "ERROR: unsupported modifier (:ä) in substitution"},
    }),
    Name);

INSTANTIATE_TEST_SUITE_P(
    Defaults, ExpandTest,
    testing::ValuesIn<ExpandCase>({
        {"ColonMinusSet", "${a:-x}", "one"},
        {"ColonMinusEmpty", "${empty:-x}", "x"},
        {"ColonMinusUnset", "${nope:-x}", "x"},
        {"MinusEmpty", "${empty-x}", ""},
        {"MinusUnset", "${nope-x}", "x"},
        {"ColonPlusSet", "${a:+x}", "x"},
        {"ColonPlusEmpty", "${empty:+x}", ""},
        {"PlusEmpty", "${empty+x}", "x"},
        {"PlusUnset", "${nope+x}", ""},
        {"Nested", "${nope:-${nope:-$a}}", "one"},
        {"NestedThenText", "${nope:-${a}}b", "oneb"},
        {"QuotesInWord", "${nope:-'a}b'}", "a}b"},
        {"EscapeInWord", "${nope:-\\}x}", "}x"},
        {"BraceInWord", "${nope:-{x}", "{x"},
        {"ColonInWord", "${a:+$b:}", "two:"},
        {"InDoubleQuotes", "\"${nope:-\"a b\"}\"", "a b"},
        {"ColonQuestionSet", "${a:?msg}", "one"},
        {"ColonQuestionEmpty", "${empty:?}", "ERROR: empty: is not allowed to be empty"},
        {"ColonQuestionUnset", "${nope:?}", "ERROR: nope: is not allowed to be unset"},
        {"QuestionEmpty", "${empty?}", ""},
        {"QuestionUnset", "${nope?}", "ERROR: nope: is not allowed to be unset"},
        {"Message", "${nope:?need \"a $a\"}", "ERROR: nope: need a one"},
        {"MessageOfEmpty", "${empty:?say $b}", "ERROR: empty: say two"},
        // The word is evaluated even when it is not used.
        {"UnusedWordFails", "${a:-${nope:?msg}}", "ERROR: nope: msg"},
    }),
    Name);

INSTANTIATE_TEST_SUITE_P(Patterns, ExpandTest,
                         testing::ValuesIn<ExpandCase>({
                             {"ShortestPrefix", "${path#*/}", "usr/local/bin"},
                             {"LongestPrefix", "${path##*/}", "bin"},
                             {"ShortestSuffix", "${tgz%.*}", "x.tar"},
                             {"LongestSuffix", "${tgz%%.*}", "x"},
                             {"OnlyAtTheEnds", "${path#usr}", "/usr/local/bin"},
                             {"NoSuffix", "${path%bi}", "/usr/local/bin"},
                             {"QuestionMark", "${a#?}", "ne"},
                             {"QuestionMarkIsOneCharacter", "${unicode%?}", "äö"},
                             {"EscapedStar", "${stars#a\\*}", "b?c"},
                             {"EscapedQuestion", "${stars%\\?c}", "a*b"},
                             {"EscapedBackslash", "${back#a\\\\}", "b"},
                             {"EscapedBrace", "${brace#*\\}}", "b"},
                             {"NoBrackets", "${a#[o]}", "one"},
                             {"RegexIsLiteral", "${tgz%.t.r*}", "x.tar.gz"},
                             {"NoNewlineInStar", "${lines##*b}", "\ncd\nab"},
                             {"SuffixOverLines", "${lines%%c*}", "ab\ncd\nab"},
                             {"SuffixAcrossLiteralNewline", "${lines%\n*}", "ab\ncd"},
                             {"PatternFromVariable", "${path#$slash}", "/usr/local/bin"},
                             {"PatternWithVariable", "${a#${nope:-o}}", "ne"},
                             {"QuotedPattern", "${stars#\"a\"}", "*b?c"},
                             {"OfUnset", "${nope#x}", ""},
                             {"WholeValue", "${a%%*}", ""},
                             {"EmptyPattern", "${a#}", "one"},
                             {"BadEscape", "${a#\\n}",
                              "ERROR: invalid pattern (\\n) in substitution: invalid escape '\\n'"},
                             {"EscapeAtEnd", "${a#'\\'}",
                              "ERROR: invalid pattern (\\) in substitution: invalid escape '\\'"},
                             {"BadEscapeOfUnset", "${nope%\\n}",
                              "ERROR: invalid pattern (\\n) in substitution: invalid escape '\\n'"},
                         }),
                         Name);

INSTANTIATE_TEST_SUITE_P(Replacements, ExpandTest,
                         testing::ValuesIn<ExpandCase>({
                             {"First", "${word/a/X}", "X-b-a-b"},
                             {"All", "${word//a/X}", "X-b-X-b"},
                             {"LongestMatch", "${word/a*b/X}", "X"},
                             {"AllOfOneCharacter", "${unicode//?/.}", "..."},
                             {"StarOnce", "${a//*/X}", "X"},
                             {"EmptyPatternEverywhere", "${a///-}", "-o-n-e-"},
                             {"NoMatch", "${a/x/y}", "one"},
                             {"EmptyReplacement", "${word//-/}", "abab"},
                             {"EscapedSlash", "${slash//\\//-}", "a-b-c"},
                             // The escape of a replacement stays.
                             {"EscapeInReplacement", "${word/-/\\/}", "a\\/b-a-b"},
                             {"ReferenceInBoth", "${a/${nope:-n}/$b}", "otwoe"},
                             {"DollarInReplacement", "${word//a/\\$1}", "\\$1-b-\\$1-b"},
                             {"OfUnset", "${nope/a/b}", ""},
                             {"MissingSlash", "${a/x}", "ERROR: syntax error: missing '/' in ${}"},
                             {"MissingBrace", "${a/x/y", "ERROR: syntax error: missing '}'"},
                             {"BadEscape", "${a/\\x/y}",
                              "ERROR: invalid pattern (\\x) in substitution: invalid escape '\\x'"},
                         }),
                         Name);

TEST(Expand, OtherEscapeCharacter) {
  ExpandOptions options;
  options.escape = '`';
  EXPECT_EQ(Expand("c:\\dir\\$a`$a", options), "c:\\dir\\one$a");
  EXPECT_EQ(Expand("\"a`\"b``\\\"", options), "a\"b`\\");
}

// How steps are shown: RUN keeps its quotes and what it does not know.
TEST(Expand, KeepsQuotesAndUnset) {
  ExpandOptions options;
  options.keep_quotes = true;
  options.keep_unset = true;
  EXPECT_EQ(Expand("echo \"$a\" '$b' $nope ${nope} ${nope:-x} ${nope#y} ${nope/a/b}", options),
            "echo \"one\" '$b' $nope ${nope} ${nope:-x} ${nope#y} ${nope/a/b}");
  EXPECT_EQ(Expand("${nope:+$a} ${nope?$b}", options), "${nope:+one} ${nope?two}");
}

TEST(Expand, KeepsEscapes) {
  ExpandOptions options;
  options.keep_quotes = true;
  options.keep_escapes = true;
  EXPECT_EQ(Expand(R"(\a "\$x" 'b\c' d\)", options), R"(\a "\$x" 'b\c' d\)");
}

// Bodies of here-documents (scenarios 21 and 22).
TEST(Expand, S21S22HeredocBodies) {
  ExpandOptions options;
  options.ignore_quotes = true;
  EXPECT_EQ(Expand("\\\n", options), "\n");
  EXPECT_EQ(Expand("\\\\\n", options), "\\\n");
  EXPECT_EQ(Expand("\\$\n", options), "$\n");
  EXPECT_EQ(Expand("it's \"$a\" ${nope:-'x'}\n", options), "it's \"one\" 'x'\n");
}

// Scenarios 32, 39 and 41, as far as they are about expansion.
TEST(Expand, S32S39S41) {
  EXPECT_EQ(Expand("${FOO:?\"custom error\"}"), "ERROR: FOO: custom error");
  const auto image = [](absl::string_view name) -> std::optional<absl::string_view> {
    if (name == "image") return "idlebox";
    return std::nullopt;
  };
  const auto box = ExpandWord("busy${image#idle}", {}, image);
  ASSERT_TRUE(box.ok());
  EXPECT_EQ(*box, "busybox");
  EXPECT_EQ(Expand("\"\""), "");
}

TEST(Expand, ErrorsQuoteTheText) {
  EXPECT_EQ(
      ExpandWord("a\t${}", {}, LookUp).status(),
      absl::InvalidArgumentError("failed to process \"a\\t${}\": syntax error: bad substitution"));
}

TEST(Expand, TellsWhichNamesWereSet) {
  const auto expansion =
      ExpandTraced("$a ${b:+${c:-x}} ${empty:-y} ${nope:-z} '$quoted' \\$d", {}, LookUp);
  ASSERT_TRUE(expansion.ok());
  EXPECT_THAT(expansion->set, ElementsAre("a", "b", "empty"));
  EXPECT_THAT(expansion->unset, ElementsAre("c", "nope"));
}

struct WordsCase {
  const char* name;
  const char* text;
  const char* want;  // joined by '|'
};

class ExpandWordsTest : public testing::TestWithParam<WordsCase> {};

TEST_P(ExpandWordsTest, Words) {
  const auto words = ExpandWords(GetParam().text, {}, LookUp);
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_EQ(absl::StrJoin(*words, "|"), GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(Words, ExpandWordsTest,
                         testing::ValuesIn<WordsCase>({
                             {"Blank", "  ", ""},
                             {"Trimmed", "  a \t b\n", "a|b"},
                             {"UnicodeSpace",
                              "a\xC2\xA0"
                              "b",
                              "a|b"},
                             {"ValueSplits", "1${spaces}2", "1|x|y|2"},
                             {"QuotedValueDoesNot", "1\"$spaces\"2", "1 x  y 2"},
                             {"EscapedBlank", "a\\ b", "a b"},
                             {"QuotesJoin", "a' b 'c d", "a b c|d"},
                             {"EmptyQuotes", "a \"\" b", "a|b"},
                             {"PrefixOfSubstitution", "80${nope:-81}82", "8182"},
                             {"PrefixOfQuotedSubstitution", "a 'b'c\"${nope-d}\"", "a|d"},
                             {"PrefixOfPlainReference", "80${nope}82", "8082"},
                             {"DefaultSplits", "${nope:-a b}", "a|b"},
                             {"HereTakesBlanks", "a << b", "a|<< b"},
                         }),
                         Name);

// Scenario 97.
TEST(ExpandWords, S97Ports) {
  const auto ports = [](absl::string_view) -> std::optional<absl::string_view> {
    return "3000 4000/udp";
  };
  EXPECT_THAT(*ExpandWords("$PORTS", {}, ports), ElementsAre("3000", "4000/udp"));
}

TEST(Expand, DeepNestingIsRefused) {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "${a:-";
  EXPECT_THAT(Expand(text), HasSubstr("nested too deeply"));
  text = "x";
  for (int i = 0; i < 150; ++i) text = absl::StrCat("${nope:-", text, "}");
  EXPECT_EQ(Expand(text), "x");
}

// Values that double with every step must not take the memory of the daemon.
TEST(Expand, LargeResultsAreRefused) {
  const std::string value(1 << 20, 'v');
  const auto large = [&](absl::string_view) -> std::optional<absl::string_view> { return value; };
  std::string text;
  for (int i = 0; i < 10000; ++i) text += "$a";
  for (const std::string& hostile :
       {text, absl::StrCat("\"", text, "\""), absl::StrCat("${x:+", text, "}"),
        absl::StrCat("${a//v/", std::string(10000, 'w'), "}")}) {
    const auto expansion = ExpandWord(hostile, {}, large);
    EXPECT_THAT(std::string(expansion.status().message()), HasSubstr("larger than"));
  }
}

// RE2's time is linear: a backtracking matcher would not come back from this.
TEST(Expand, ManyStars) {
  const std::string value(5000, 'a');
  const auto large = [&](absl::string_view) -> std::optional<absl::string_view> { return value; };
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  const auto expansion = ExpandWord(absl::StrCat("${v##", pattern, "b}"), {}, large);
  ASSERT_TRUE(expansion.ok());
  EXPECT_EQ(*expansion, value);
}

}  // namespace
}  // namespace kiln::daemon::dockerfile
