#include "store/codec.h"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace kiln::store {
namespace {

TEST(Codec, RoundTrip) {
  std::string bytes;
  AppendFixed32(&bytes, 0xfedcba98u);
  AppendFixed64(&bytes, 0xfedcba9876543210u);
  AppendOrdered64(&bytes, -5);
  AppendDescending64(&bytes, std::numeric_limits<int64_t>::min());
  AppendText(&bytes, std::string("a\0b", 3));
  AppendText(&bytes, "");
  bytes.append(Digest::Of("x").raw().data(), Digest::kSize);
  Decoder in(bytes);
  EXPECT_EQ(in.Fixed32(), 0xfedcba98u);
  EXPECT_EQ(in.Fixed64(), 0xfedcba9876543210u);
  EXPECT_EQ(in.Ordered64(), -5);
  EXPECT_EQ(in.Descending64(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(in.Text(), std::string("a\0b", 3));
  EXPECT_EQ(in.Text(), "");
  EXPECT_FALSE(in.Done());
  EXPECT_EQ(in.Key(), Digest::Of("x"));
  EXPECT_TRUE(in.Done());
}

TEST(Codec, BytesCompareAsNumbers) {
  const std::vector<int64_t> numbers = {
      std::numeric_limits<int64_t>::min(), -256, -1, 0, 1, 255, 256,
      std::numeric_limits<int64_t>::max()};
  for (size_t i = 1; i < numbers.size(); ++i) {
    std::string low, high, low_down, high_down;
    AppendOrdered64(&low, numbers[i - 1]);
    AppendOrdered64(&high, numbers[i]);
    AppendDescending64(&low_down, numbers[i - 1]);
    AppendDescending64(&high_down, numbers[i]);
    EXPECT_LT(low, high) << numbers[i];
    EXPECT_GT(low_down, high_down) << numbers[i];
  }
}

TEST(Codec, OrderedTextsCompareAsTexts) {
  const std::vector<std::string> texts = {"",
                                          std::string(1, '\0'),
                                          std::string("\0\0", 2),
                                          std::string("\0\1", 2),
                                          std::string("\0a", 2),
                                          std::string("\1", 1),
                                          "a",
                                          std::string("a\0", 2),
                                          std::string("a\0b", 3),
                                          "aa",
                                          "b",
                                          "\xff",
                                          "\xff\xff"};
  for (size_t i = 0; i < texts.size(); ++i) {
    std::string bytes;
    AppendOrderedText(&bytes, texts[i]);
    const std::string followed = bytes + "rest";
    Decoder in(followed);
    EXPECT_EQ(in.OrderedText(), texts[i]) << i;
    EXPECT_EQ(in.Rest(), "rest") << i;
    if (i == 0) continue;
    std::string before;
    AppendOrderedText(&before, texts[i - 1]);
    EXPECT_LT(before, bytes) << i;
    EXPECT_NE(bytes.substr(0, before.size()), before) << i;
  }
  for (const std::string& bad :
       {std::string("abc"), std::string("a\0", 2), std::string("a\0\2", 3)}) {
    Decoder in(bad);
    EXPECT_EQ(in.OrderedText(), "");
    EXPECT_FALSE(in.ok());
  }
}

TEST(Codec, EveryCutIsNoticed) {
  std::string bytes;
  AppendFixed32(&bytes, 7);
  AppendText(&bytes, "text");
  AppendFixed64(&bytes, 9);
  for (size_t size = 0; size < bytes.size(); ++size) {
    Decoder in(absl::string_view(bytes).substr(0, size));
    in.Fixed32();
    in.Text();
    in.Fixed64();
    EXPECT_FALSE(in.ok()) << size;
    EXPECT_FALSE(in.Done()) << size;
    EXPECT_EQ(in.Byte(), 0) << size;
  }
  std::string lie;
  AppendFixed32(&lie, 0xffffffffu);  // a length far beyond the end
  Decoder in(lie);
  EXPECT_EQ(in.Text(), "");
  EXPECT_FALSE(in.ok());
}

}  // namespace
}  // namespace kiln::store
