// Small readers: CSV, Go's values, suggestions, .dockerignore.
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "daemon/frontend/dockerfile/syntax/csv.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/ignore_file.h"
#include "daemon/frontend/dockerfile/syntax/suggest.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kiln::daemon::dockerfile {
namespace {

using testing::ElementsAre;

TEST(Csv, Fields) {
  EXPECT_THAT(*SplitCsv("a,b=c,,d"), ElementsAre("a", "b=c", "", "d"));
  EXPECT_THAT(*SplitCsv("a,"), ElementsAre("a", ""));
  EXPECT_THAT(*SplitCsv("\"a,\"\"b\"\"\",c\r\n"), ElementsAre("a,\"b\"", "c"));
  EXPECT_THAT(*SplitCsv("\"\",\"x\""), ElementsAre("", "x"));
  EXPECT_THAT(*SplitCsv(" a , b"), ElementsAre(" a ", " b"));
}

TEST(Csv, Errors) {
  EXPECT_EQ(SplitCsv("").status(), absl::InvalidArgumentError("EOF"));
  EXPECT_EQ(
      SplitCsv("a,b\"c").status(),
      absl::InvalidArgumentError("parse error on line 1, column 4: bare \" in non-quoted field"));
  EXPECT_EQ(SplitCsv("\"a\"b").status(),
            absl::InvalidArgumentError(
                "parse error on line 1, column 3: extraneous or missing \" in quoted-field"));
  EXPECT_EQ(SplitCsv("x,\"a").status(),
            absl::InvalidArgumentError(
                "parse error on line 1, column 4: extraneous or missing \" in quoted-field"));
}

TEST(GoText, Quote) {
  EXPECT_EQ(Quote(""), "\"\"");
  EXPECT_EQ(Quote("a\"b\\c\n\t\x01\x7f"), "\"a\\\"b\\\\c\\n\\t\\x01\\x7f\"");
  EXPECT_EQ(Quote("ä😀€"), "\"ä😀€\"");
  EXPECT_EQ(Quote("\xff\xc3("), "\"\\xff\\xc3(\"");
  EXPECT_EQ(Quote("\u00a0\u200b\ufeff"), "\"\\u00a0\\u200b\\ufeff\"");
  EXPECT_EQ(Quote("\U000E0001"), "\"\\U000e0001\"");
  EXPECT_EQ(Quote("\uFFFD"), "\"\uFFFD\"");
}

TEST(GoText, Bools) {
  for (const char* text : {"1", "t", "T", "TRUE", "true", "True"}) EXPECT_EQ(ParseBool(text), true);
  for (const char* text : {"0", "f", "F", "FALSE", "false", "False"})
    EXPECT_EQ(ParseBool(text), false);
  for (const char* text : {"", "tRUE", "yes", " 1"}) EXPECT_EQ(ParseBool(text), std::nullopt);
}

TEST(GoText, Integers) {
  EXPECT_EQ(*ParseInt32("-2147483648"), -2147483647 - 1);
  EXPECT_EQ(*ParseInt32("+007"), 7);
  for (const char* text : {"", "-", "1 ", "1_0", "0x1"})
    EXPECT_FALSE(ParseInt32(text).ok()) << text;
  EXPECT_EQ(
      ParseInt32("-2147483649").status(),
      absl::InvalidArgumentError("strconv.ParseInt: parsing \"-2147483649\": value out of range"));
  EXPECT_EQ(ParseUint32("0777", 8), 0777u);
  for (const char* text : {"", "8", "+1", "40000000000"})
    EXPECT_EQ(ParseUint32(text, 8), std::nullopt) << text;
}

TEST(GoText, Durations) {
  EXPECT_EQ(*ParseGoDuration("0"), absl::ZeroDuration());
  EXPECT_EQ(*ParseGoDuration("1h2m3s4ms5us6ns"), absl::Hours(1) + absl::Minutes(2) +
                                                     absl::Seconds(3) + absl::Milliseconds(4) +
                                                     absl::Microseconds(5) + absl::Nanoseconds(6));
  EXPECT_EQ(*ParseGoDuration("-1.5h"), -absl::Minutes(90));
  EXPECT_EQ(*ParseGoDuration(".5s"), absl::Milliseconds(500));
  EXPECT_EQ(*ParseGoDuration("+5.s"), absl::Seconds(5));
  EXPECT_EQ(*ParseGoDuration("3µs"), absl::Microseconds(3));
  for (const char* text :
       {"", "-", ".s", "1", "s", "1d", "1s1", "9999999h", "99999999999999999999s", "1 s", "inf"}) {
    EXPECT_FALSE(ParseGoDuration(text).ok()) << text;
  }
}

TEST(GoText, Sizes) {
  EXPECT_EQ(ParseRamSize("512"), 512);
  EXPECT_EQ(ParseRamSize("1k"), 1024);
  EXPECT_EQ(ParseRamSize("64MB"), 64 << 20);
  EXPECT_EQ(ParseRamSize("1.5 GiB"), int64_t{3} << 29);
  EXPECT_EQ(ParseRamSize("10b"), 10);
  EXPECT_EQ(ParseRamSize("1tb"), int64_t{1} << 40);
  for (const char* text :
       {"", "m", "1x", "1kbb", "1kib2", "bb", "1bb", "-1", "1e400", "9999999p", "nan", " 1"}) {
    EXPECT_EQ(ParseRamSize(text), std::nullopt) << text;
  }
}

TEST(Suggest, Nearest) {
  const std::vector<std::string> options = {"from", "chown", "chmod", "link"};
  EXPECT_EQ(Nearest("form", options), "from");
  EXPECT_EQ(Nearest("chwn", options), "chown");
  EXPECT_EQ(Nearest("lonk", options), "link");
  EXPECT_EQ(Nearest("xyzw", options), "");
  EXPECT_EQ(Nearest("from", options), "");
  EXPECT_EQ(Nearest("FROM", options), "");
  EXPECT_EQ(Nearest(std::string(1 << 20, 'x'), options), "");
  EXPECT_EQ(NearestIgnoringCase("FORM", options), "FROM");
  EXPECT_EQ(NearestIgnoringCase("Form", options), "from");
  EXPECT_EQ(NearestIgnoringCase("FROM", options), "");
  EXPECT_EQ(DidYouMean("x"), " (did you mean x?)");
  EXPECT_EQ(DidYouMean(""), "");
}

TEST(IgnoreFile, Patterns) {
  const auto patterns = ParseIgnoreFile(
      "\xEF\xBB\xBF# comment\n"
      "  a/./b//c/  \r\n"
      "\n"
      " # not a comment\n"
      "/root\n"
      "/\n"
      "! /x/../y \n"
      "!\n"
      "**/*.txt\n"
      "../up\n"
      ".\n"
      "last");
  ASSERT_TRUE(patterns.ok());
  EXPECT_THAT(*patterns, ElementsAre("a/b/c", "# not a comment", "root", "/", "!y", "!", "**/*.txt",
                                     "../up", ".", "last"));
  EXPECT_TRUE(ParseIgnoreFile("")->empty());
}

TEST(IgnoreFile, LongLine) {
  EXPECT_TRUE(ParseIgnoreFile(std::string(65535, 'x')).ok());
  EXPECT_EQ(ParseIgnoreFile("a\n" + std::string(65536, 'x')).status(),
            absl::InvalidArgumentError("line 2 is longer than 65535 bytes"));
}

TEST(Unicode, Decode) {
  for (const char* broken : {"\x80", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                             "\xF8\x88\x80\x80\x80", "\xE2\x82", "\xC3(", "\xF0\x9F\x98"}) {
    const Rune rune = DecodeRune(broken);
    EXPECT_EQ(rune.value, kReplacementChar) << broken;
    EXPECT_EQ(rune.width, 1) << broken;
  }
  for (const char32_t value :
       {U'a', U'\u00e9', U'\u20ac', U'\ufffd', U'\U0001F600', U'\U0010FFFF'}) {
    std::string text;
    AppendRune(value, &text);
    EXPECT_EQ(DecodeRune(text).value, value);
    EXPECT_EQ(DecodeRune(text).width, text.size());
  }
}

TEST(Unicode, Trim) {
  EXPECT_EQ(TrimSpace(" \t\u00a0\u3000x y\u2003\u0085\n"), "x y");
  EXPECT_EQ(TrimSpace("\u3000"), "");
  EXPECT_EQ(TrimSpace("\xA0"), "\xA0");
  EXPECT_EQ(TrimSpace("x\xA0"), "x\xA0");
  EXPECT_EQ(TrimLeadingSpace("  x "), "x ");
}

TEST(Unicode, Classes) {
  EXPECT_TRUE(IsLetter(U'é') && IsLetter(U'한') && !IsLetter(U'1') && !IsLetter(U'€'));
  EXPECT_TRUE(IsDigit(U'7') && IsDigit(U'\u0663') && !IsDigit(U'\u00b2'));
  EXPECT_TRUE(IsPrintable(U'€') && !IsPrintable(U'\u00a0') && !IsPrintable(U'\n'));
}

}  // namespace
}  // namespace kiln::daemon::dockerfile
