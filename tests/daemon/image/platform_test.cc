#include "daemon/image/platform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kiln::daemon {
namespace {

struct ParseCase {
  const char* text;
  const char* want;        // formatted; "" = refused
  const char* normalized;  // formatted again after NormalizePlatform
};
class PlatformParseTest : public testing::TestWithParam<ParseCase> {};

TEST_P(PlatformParseTest, FormatsAndNormalizes) {
  const auto platform = ParsePlatform(GetParam().text);
  if (*GetParam().want == '\0') {
    EXPECT_EQ(platform.status().code(), absl::StatusCode::kInvalidArgument) << GetParam().text;
    EXPECT_THAT(std::string(platform.status().message()), testing::HasSubstr(GetParam().text));
    return;
  }
  ASSERT_TRUE(platform.ok()) << platform.status();
  EXPECT_EQ(FormatPlatform(*platform), GetParam().want) << GetParam().text;
  EXPECT_EQ(FormatPlatform(NormalizePlatform(*platform)), GetParam().normalized);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, PlatformParseTest,
    testing::ValuesIn<ParseCase>({
        {"linux/amd64", "linux/amd64", "linux/amd64"},
        {"linux/amd64/v1", "linux/amd64", "linux/amd64"},
        {"linux/amd64/v3", "linux/amd64/v3", "linux/amd64/v3"},
        {"Linux/X86_64", "linux/amd64", "linux/amd64"},
        {"linux/x86-64", "linux/amd64", "linux/amd64"},
        {"linux/i386", "linux/386", "linux/386"},
        {"linux/aarch64", "linux/arm64", "linux/arm64"},
        {"linux/arm64/v8", "linux/arm64/v8", "linux/arm64"},
        {"linux/arm64/8", "linux/arm64/v8", "linux/arm64"},
        {"linux/arm64/v9.0", "linux/arm64/v9", "linux/arm64/v9"},
        {"linux/arm", "linux/arm", "linux/arm/v7"},
        {"linux/arm/v7", "linux/arm/v7", "linux/arm/v7"},
        {"linux/arm/6", "linux/arm/v6", "linux/arm/v6"},
        {"linux/armhf", "linux/arm", "linux/arm/v7"},
        {"linux/armel", "linux/arm/v6", "linux/arm/v6"},
        {"arm64", "linux/arm64", "linux/arm64"},
        {"s390x", "linux/s390x", "linux/s390x"},
        {"macos/arm64", "darwin/arm64", "darwin/arm64"},
        {"windows(10.0.17763+win32k)/amd64", "windows(10.0.17763+win32k)/amd64",
         "windows(10.0.17763+win32k)/amd64"},
        {"windows(10%2F0)/amd64", "windows(10%2F0)/amd64", "windows(10%2F0)/amd64"},
        {"", "", ""},
        {"nonsense", "", ""},
        {"linux/*", "", ""},
        {"linux//v7", "", ""},
        {"linux/amd64/v1/x", "", ""},
        {"linux(1/amd64", "", ""},
        {"li nux/amd64", "", ""},
    }));

TEST(PlatformTest, OneNameTakesTheRestFromTheHost) {
  const auto platform = ParsePlatform("linux");
  ASSERT_TRUE(platform.ok());
  EXPECT_EQ(platform->architecture, HostPlatform().architecture);
  EXPECT_FALSE(HostPlatform().architecture.empty());
}

struct RankCase {
  const char* wanted;
  std::vector<std::string> best_first;  // what it accepts, in this order
  std::vector<std::string> refused;
};
class PlatformRankTest : public testing::TestWithParam<RankCase> {};

TEST_P(PlatformRankTest, Order) {
  const PlatformMatcher matcher(*ParsePlatform(GetParam().wanted));
  std::optional<size_t> last;
  for (const std::string& offered : GetParam().best_first) {
    const std::optional<size_t> rank = matcher.Rank(*ParsePlatform(offered));
    ASSERT_TRUE(rank.has_value()) << offered;
    EXPECT_TRUE(!last.has_value() || *rank > *last) << offered;
    last = rank;
  }
  for (const std::string& offered : GetParam().refused)
    EXPECT_FALSE(matcher.Matches(*ParsePlatform(offered))) << offered;
}

INSTANTIATE_TEST_SUITE_P(
    ImageSpec, PlatformRankTest,
    testing::ValuesIn<RankCase>({
        {"linux/amd64", {"linux/amd64", "linux/386"}, {"linux/amd64/v2", "linux/arm64"}},
        {"linux/amd64/v3",
         {"linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"},
         {"linux/amd64/v4", "windows/amd64"}},
        {"linux/arm64",
         {"linux/arm64/v8", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"},
         {"linux/arm64/v9", "linux/amd64"}},
        {"linux/arm64/v9.1",
         {"linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64", "linux/arm/v7"},
         {"linux/arm64/v9.2", "linux/arm64/v8.7"}},
        {"linux/arm64/vx", {"linux/arm64/vx"}, {"linux/arm64", "linux/arm/v7"}},
        {"linux/arm/v7", {"linux/arm", "linux/arm/v6", "linux/arm/v5"}, {"linux/arm/v8"}},
        {"linux/arm/v6", {"linux/arm/v6", "linux/arm/v5"}, {"linux/arm/v7"}},
        {"linux/s390x", {"linux/s390x"}, {"linux/amd64"}},
        {"windows(10.0.17763.5)/amd64",
         {"windows(10.0.17763.9+win32k)/amd64"},
         {"windows(10.0.20348.1)/amd64", "windows(10.0.17763+other)/amd64"}},
    }));

TEST(PlatformTest, AttestationsMatchNothing) {
  const PlatformMatcher matcher(HostPlatform());
  EXPECT_FALSE(matcher.Matches({"unknown", "unknown", "", "", {}}));
  EXPECT_FALSE(matcher.Matches({}));
}

}  // namespace
}  // namespace kiln::daemon
