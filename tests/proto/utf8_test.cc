#include "proto/utf8.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace kiln {
namespace {

TEST(Utf8, BrokenBytesAreReplacedOneByOne) {
  for (const std::string broken :
       {"\x80", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
        "\xF8\x88\x80\x80\x80", "\xE2\x82", "\xC3(", "\xF0\x9F\x98", "\xFF"}) {
    EXPECT_EQ(Utf8SequenceLength(broken), 0u);
    EXPECT_FALSE(IsValidUtf8(broken));
    EXPECT_FALSE(IsValidUtf8(absl::StrCat("a\u20ac", broken)));
    const std::string repaired = ToValidUtf8(absl::StrCat("a", broken, "b"));
    EXPECT_TRUE(IsValidUtf8(repaired));
    EXPECT_EQ(repaired.substr(0, 4), "a\uFFFD");
    EXPECT_EQ(repaired.back(), 'b');
  }
  EXPECT_EQ(ToValidUtf8("\xff\xfe"), "\uFFFD\uFFFD");
}

TEST(Utf8, WholeCharactersStay) {
  for (const std::string text :
       {"", "a", "\u00e9", "\u20ac", "\uFFFD", "\U0001F600", "\U0010FFFF"}) {
    EXPECT_EQ(Utf8SequenceLength(text), text.size());
    EXPECT_TRUE(IsValidUtf8(text));
    EXPECT_EQ(ToValidUtf8(text), text);
  }
  EXPECT_TRUE(IsValidUtf8(std::string("a\0b", 3)));
}

}  // namespace
}  // namespace kiln
