#include "daemon/image/image_config.h"

#include <gtest/gtest.h>

#include <string>

namespace kiln::daemon {
namespace {

ImageConfigInput Input(const std::string& config) {
  ImageConfigInput input;
  input.config = config;
  input.default_platform.os = "linux";
  input.default_platform.architecture = "amd64";
  return input;
}

TEST(ImageConfigTest, DefaultWhenTheFrontendGivesNone) {
  const auto config = MakeImageConfig(Input(""));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->json,
            "{\"architecture\":\"amd64\",\"config\":{\"Env\":[\"PATH=/usr/local/sbin:"
            "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"],\"WorkingDir\":\"/\"},"
            "\"created\":null,\"history\":[],\"os\":\"linux\","
            "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}");
}

TEST(ImageConfigTest, UnknownMembersStayAsTheyAre) {
  const auto config =
      MakeImageConfig(Input("{\"os\":\"linux\",\"z\":{\"b\": 1.0,\"a\":\"<\"},"
                            "\"architecture\":\"arm64\",\"created\":\"2020-01-01T00:00:00Z\"}"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->json,
            "{\"architecture\":\"arm64\",\"created\":\"2020-01-01T00:00:00Z\",\"history\":[],"
            "\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]},"
            "\"z\":{\"b\":1.0,\"a\":\"\\u003c\"}}");
}

TEST(ImageConfigTest, CreatedIsClampedToTheEpoch) {
  ImageConfigInput input =
      Input("{\"os\":\"linux\",\"architecture\":\"amd64\",\"created\":\"2020-01-01T00:00:00Z\"}");
  input.epoch = absl::FromUnixSeconds(1000);
  EXPECT_NE(MakeImageConfig(input)->json.find("\"created\":\"1970-01-01T00:16:40Z\""),
            std::string::npos);
  input.epoch = absl::FromUnixSeconds(1999999999);
  EXPECT_NE(MakeImageConfig(input)->json.find("\"created\":\"2020-01-01T00:00:00Z\""),
            std::string::npos);
}

TEST(ImageConfigTest, InlineCacheIsBase64) {
  ImageConfigInput input = Input("");
  input.inline_cache = "[]";
  EXPECT_NE(MakeImageConfig(input)->json.find("\"moby.buildkit.cache.v0\":\"W10=\""),
            std::string::npos);
}

struct RefusedCase {
  const char* config;
  const char* message;
};

// E9
TEST(ImageConfigTest, E9Refusals) {
  for (const RefusedCase& test : std::initializer_list<RefusedCase>{
           {"null", "invalid null image config for export"},
           {"{}", "invalid image config for export: missing os"},
           {"{\"architecture\":\"amd64\"}", "invalid image config for export: missing os"},
           {"{\"os\":\"linux\"}", "invalid image config for export: missing architecture"},
           {"{\"os\":\"linux\",\"architecture\":\"\"}",
            "invalid image config for export: missing architecture"},
           {"[]", "invalid image config for export: not a JSON object"},
           {"{\"os\":", "invalid image config for export: not valid JSON"},
           {"{\"os\":3,\"architecture\":\"amd64\"}",
            "invalid image config for export: os is no text"}}) {
    const auto config = MakeImageConfig(Input(test.config));
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << test.config;
    EXPECT_EQ(config.status().message(), test.message) << test.config;
  }
}

TEST(ImageConfigTest, DiffIdsAreReadBack) {
  ImageConfigInput input = Input("");
  input.diff_ids = {Digest::Of("a"), Digest::Of("b")};
  input.layers.resize(2);
  EXPECT_EQ(*DiffIds(MakeImageConfig(input)->json), input.diff_ids);
  EXPECT_FALSE(DiffIds("{}").ok());
}

}  // namespace
}  // namespace kiln::daemon
