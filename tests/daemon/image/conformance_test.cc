// The configs that BuildKit v0.20.2 exported, made anew from what its frontend had returned: equal
// to the byte, since the digest in the manifest is taken over them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "daemon/image/image_config.h"
#include "daemon/image/manifest.h"
#include "daemon/image/platform_json.h"
#include "proto/digest.h"

namespace kiln::daemon {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Json ReadJson(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return Json::parse(text.str());
}

std::vector<std::string> BuildNames() {
  std::vector<std::string> names;
  for (const auto& entry :
       fs::directory_iterator(fs::path(KILN_TESTDATA) / "conformance" / "build"))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class ImageConformanceTest : public testing::TestWithParam<std::string> {
 protected:
  static void Check(const Json& want, const Json& frontend, const std::string& suffix) {
    ImageConfigInput input;
    input.config = frontend.at("containerimage.config" + suffix).dump();
    if (frontend.contains("containerimage.base.config" + suffix))
      input.base_config = frontend.at("containerimage.base.config" + suffix).dump();
    for (const auto& id : want.at("config").at("rootfs").at("diff_ids"))
      input.diff_ids.push_back(*Digest::Parse(id.get<std::string>()));
    // Made just now, long after the epoch.
    input.layers.resize(input.diff_ids.size());
    for (LayerFacts& layer : input.layers) layer.created_at = absl::FromUnixSeconds(1900000000);
    input.epoch = absl::FromUnixSeconds(1700000000);
    const auto config = MakeImageConfig(input);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_FALSE(config->surplus_history);
    const Json& descriptor = want.at("manifest").at("config");
    EXPECT_EQ(Digest::Of(config->json).ToString(), descriptor.at("digest").get<std::string>())
        << config->json << "\n"
        << want.at("config").dump();
    EXPECT_EQ(config->json.size(), descriptor.at("size").get<size_t>());
  }
};

TEST_P(ImageConformanceTest, ConfigBytes) {
  const fs::path data = fs::path(KILN_TESTDATA) / "conformance";
  const Json want = ReadJson(data / "build" / GetParam() / "image.json");
  const fs::path result = data / "llb" / GetParam() / "result.json";
  // Here the frontend got the epoch, too, and wrote times; there the builds have other steps.
  if (GetParam() == "entrypoint-cmd" || GetParam() == "run-mounts")
    GTEST_SKIP() << "the frontend result is of another input";
  const Json frontend = ReadJson(result);
  if (!want.is_array()) {
    Check(want, frontend, "");
    return;
  }
  for (const Json& image : want) {
    auto platform = PlatformFromJson(image.at("config").dump());
    ASSERT_TRUE(platform.ok());
    Check(image, frontend, "/" + FormatPlatform(*platform));
  }
}

TEST_P(ImageConformanceTest, ManifestShape) {
  const Json want =
      ReadJson(fs::path(KILN_TESTDATA) / "conformance" / "build" / GetParam() / "image.json");
  for (const Json& image : want.is_array() ? want : Json::array({want})) {
    const Json& json = image.at("manifest");
    Manifest manifest;
    manifest.media_type = json.at("mediaType").get<std::string>();
    manifest.config = *DescriptorFromJson(json.at("config").dump());
    for (const Json& layer : json.at("layers"))
      manifest.layers.push_back(*DescriptorFromJson(layer.dump()));
    EXPECT_EQ(manifest.ToJson(), json.dump(2));
  }
}

INSTANTIATE_TEST_SUITE_P(BuildKit, ImageConformanceTest, testing::ValuesIn(BuildNames()),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace kiln::daemon
