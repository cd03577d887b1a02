#include "proto/digest.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace kiln {
namespace {

// FIPS 180-4 example values.
constexpr char kEmpty[] = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kAbc[] = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(DigestTest, OfKnownBytes) {
  EXPECT_EQ(Digest::Of("").ToString(), kEmpty);
  EXPECT_EQ(Digest::Of("abc").ToString(), kAbc);
}

TEST(DigestTest, IncrementalEqualsWhole) {
  Sha256 hash;
  hash.Update("a").Update("").Update("bc");
  EXPECT_EQ(hash.Finish().ToString(), kAbc);
  EXPECT_EQ(hash.Finish().ToString(), kEmpty) << "starts over after Finish";
}

TEST(DigestTest, ParseRoundTrip) {
  const auto digest = Digest::Parse(kAbc);
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, Digest::Of("abc"));
  EXPECT_EQ(digest->ToString(), kAbc);
  EXPECT_EQ(absl::StrCat("sha256:", digest->hex()), kAbc);
  EXPECT_EQ(*Digest::FromRaw(digest->raw()), *digest);
  EXPECT_FALSE(digest->empty());
  EXPECT_TRUE(Digest().empty());
}

struct DigestCase {
  const char* name;
  std::string input;
  absl::StatusCode want;
};
class DigestParseTest : public testing::TestWithParam<DigestCase> {};

TEST_P(DigestParseTest, Code) {
  EXPECT_EQ(Digest::Parse(GetParam().input).status().code(), GetParam().want) << GetParam().input;
}

INSTANTIATE_TEST_SUITE_P(
    OciDescriptorSpec, DigestParseTest,
    testing::ValuesIn<DigestCase>(
        {{"Empty", "", absl::StatusCode::kInvalidArgument},
         {"NoAlgorithm", ":abc", absl::StatusCode::kInvalidArgument},
         {"ShortHex", "sha256:e3b0", absl::StatusCode::kInvalidArgument},
         {"UpperHex", "sha256:" + std::string(64, 'A'), absl::StatusCode::kInvalidArgument},
         {"NoHexAtTheEnd", "sha256:" + std::string(63, 'a') + "g",
          absl::StatusCode::kInvalidArgument},
         {"LongHex", "sha256:" + std::string(66, 'a'), absl::StatusCode::kInvalidArgument},
         {"UnknownAlgorithm", "md5:d41d8cd98f00b204", absl::StatusCode::kUnimplemented}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace kiln
