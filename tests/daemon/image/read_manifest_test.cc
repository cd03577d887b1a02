#include "daemon/image/read_manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;

const std::string kD = "sha256:" + std::string(64, 'd');

// "@" stands for a descriptor's digest and size.
std::string Fill(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"@", absl::StrCat("\"digest\":\"", kD, "\",\"size\":7")}});
}

TEST(ReadManifestTest, ReadsAManifest) {
  const auto manifest = ParseManifest(
      Fill(R"({"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
        "config":{"mediaType":"c",@},
        "layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip",@},
                  {"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",@,
                   "urls":["https://x/y"]}]})"),
      "");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_FALSE(manifest->is_index);
  EXPECT_EQ(manifest->config.descriptor.digest.ToString(), kD);
  ASSERT_EQ(manifest->layers.size(), 2u);
  EXPECT_EQ(manifest->layers[0].descriptor.media_type, store::kOciLayerGzip);
  EXPECT_EQ(manifest->layers[1].descriptor.media_type,
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
  EXPECT_THAT(manifest->layers[1].descriptor.urls, testing::ElementsAre("https://x/y"));
}

TEST(ReadManifestTest, ReadsAnIndexWithPlatforms) {
  const auto index =
      ParseManifest(Fill(R"({"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
        {"mediaType":"application/vnd.oci.image.manifest.v1+json",@,
         "platform":{"architecture":"arm","os":"linux","variant":"v7"}},
        {"mediaType":"application/vnd.oci.image.manifest.v1+json",@}]})"),
                    kOciIndex);
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_EQ(index->manifests.size(), 2u);
  EXPECT_EQ(FormatPlatform(*index->manifests[0].platform), "linux/arm/v7");
  EXPECT_FALSE(index->manifests[1].platform.has_value());
}

TEST(ReadManifestTest, WithoutATypeItIsDockers) {
  EXPECT_EQ(ParseManifest(Fill(R"({"config":{"mediaType":"c",@}})"), "")->media_type,
            kDockerManifest);
  EXPECT_EQ(ParseManifest(R"({"manifests":[]})", "")->media_type, kDockerIndex);
}

struct BadCase {
  const char* name;
  std::string json;
  const char* type;
  const char* why;
};
class BadManifestTest : public testing::TestWithParam<BadCase> {};

TEST_P(BadManifestTest, P10_IsRefusedWithItsOwnMessage) {
  const auto manifest = ParseManifest(Fill(GetParam().json), GetParam().type);
  ASSERT_FALSE(manifest.ok());
  EXPECT_THAT(std::string(manifest.status().message()), HasSubstr(GetParam().why));
}

INSTANTIATE_TEST_SUITE_P(
    Manifests, BadManifestTest,
    testing::ValuesIn<BadCase>({
        {"Both", R"({"layers":[],"manifests":[]})", "", "a manifest and those of an index"},
        {"Neither", "{}", "", "neither a manifest nor an index"},
        {"Empty", "", "", "not valid JSON"},
        {"Array", "[]", "", "not a JSON object"},
        {"Cut", R"({"config":)", "", "not valid JSON"},
        {"DeclaredOtherwise",
         R"({"mediaType":"application/vnd.oci.image.index.v1+json","config":{"mediaType":"c",@}})",
         "", "is called application/vnd.oci.image.index.v1+json"},
        {"CalledOtherwise", R"({"manifests":[]})", kOciManifest, "but has the members of an index"},
        {"Foreign", R"({"mediaType":"text/html","config":{"mediaType":"c",@}})", "",
         "text/html is no image's"},
        {"Schema1", R"({"schemaVersion":1,"fsLayers":[],"history":[]})", "", "schema 1"},
        {"Schema1ByType", R"({"config":{"mediaType":"c",@}})", "text/plain", "schema 1"},
        {"NoConfig", R"({"layers":[]})", "", "without a config"},
        {"TwoDigests", R"({"config":{"mediaType":"c",@,"digest":"x"}})", "", "\"digest\" twice"},
        {"NoSize",
         R"({"config":{"mediaType":"c","digest":"sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"}})",
         "", "config: "},
        {"Negative",
         R"({"config":{"mediaType":"c","size":-1,"digest":"sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"}})",
         "", "size"},
        {"BadDigest", R"({"config":{"mediaType":"c","size":1,"digest":"sha256:../../etc"}})", "",
         "config: "},
        {"LayersNoArray", R"({"config":{"mediaType":"c",@},"layers":{}})", "",
         "\"layers\" is no array"},
        {"Deep", std::string(100, '['), "", "deeper than 64"},
        {"DeepInside", "{\"x\":" + std::string(70, '[') + std::string(70, ']') + "}", "",
         "deeper than 64"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST(ReadManifestTest, CountsAreBounded) {
  std::string layers;
  for (int i = 0; i < 4097; ++i)
    absl::StrAppend(&layers, i == 0 ? "" : ",", "{\"mediaType\":\"l\",@}");
  const auto manifest = ParseManifest(
      Fill(absl::StrCat(R"({"config":{"mediaType":"c",@},"layers":[)", layers, "]}")), "");
  EXPECT_THAT(std::string(manifest.status().message()), HasSubstr("more than 4096"));
}

TEST(ReadConfigTest, ReadsWhatMatters) {
  const auto config = ParseConfig(absl::StrCat(
      R"({"architecture":"arm64","os":"linux","variant":"v8","rootfs":{"type":"layers","diff_ids":[")",
      kD, R"("]},"history":[{"created":"2020-01-02T03:04:05Z"},{"empty_layer":true}],"x":1})"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->platform.variant, "v8");
  EXPECT_EQ(config->rootfs_type, "layers");
  ASSERT_EQ(config->diff_ids.size(), 1u);
  ASSERT_EQ(config->created.size(), 1u);
  EXPECT_EQ(absl::FormatTime(absl::RFC3339_full, config->created[0], absl::UTCTimeZone()),
            "2020-01-02T03:04:05+00:00");
}

TEST(ReadConfigTest, RefusesWhatIsNoConfig) {
  for (const char* text :
       {"", "[]", "null", R"({"rootfs":{"diff_ids":[1]}})", R"({"rootfs":{"diff_ids":["x"]}})",
        R"({"rootfs":{"type":1}})", R"({"os":1})", R"({"history":[1]})", R"({"os":"a","os":"b"})"})
    EXPECT_FALSE(ParseConfig(text).ok()) << text;
}

TEST(ChainIdTest, IsTheOneOfTheSpecification) {
  const Digest a = Digest::Of("a"), b = Digest::Of("b");
  EXPECT_EQ(ChainId({a}), a);
  EXPECT_EQ(ChainId({a, b}), Digest::Of(a.ToString() + " " + b.ToString()));
}

}  // namespace
}  // namespace kiln::daemon
