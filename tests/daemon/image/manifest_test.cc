#include "daemon/image/manifest.h"

#include <gtest/gtest.h>

#include <string>

namespace kiln::daemon {
namespace {

ManifestEntry Entry(const char* type, const char* bytes) {
  ManifestEntry entry;
  entry.descriptor.media_type = type;
  entry.descriptor.digest = Digest::Of(bytes);
  entry.descriptor.size_bytes = static_cast<int64_t>(std::string(bytes).size());
  return entry;
}

TEST(ManifestTest, ScratchHasAnEmptyList) {
  Manifest manifest;
  manifest.media_type = kOciManifest;
  manifest.config = Entry(kOciConfig, "{}");
  EXPECT_EQ(
      manifest.ToJson(),
      "{\n  \"schemaVersion\": 2,\n"
      "  \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n"
      "  \"config\": {\n"
      "    \"mediaType\": \"application/vnd.oci.image.config.v1+json\",\n"
      "    \"digest\": \"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff"
      "8a\",\n    \"size\": 2\n  },\n  \"layers\": []\n}");
}

TEST(ManifestTest, DescriptorSurvivesARoundTrip) {
  ManifestEntry entry = Entry(kOciManifest, "x");
  entry.descriptor.annotations = {{"b", "2"}, {"a", "<1>"}};
  entry.descriptor.urls = {"https://example.invalid/x"};
  entry.data = "{}";
  entry.platform = *ParsePlatform("linux/arm/v7");
  entry.platform->os_version = "1";
  entry.platform->os_features = {"f"};
  const std::string json = DescriptorToJson(entry);
  EXPECT_EQ(
      json,
      "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
      "\"digest\":\"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\","
      "\"size\":1,\"urls\":[\"https://example.invalid/x\"],"
      "\"annotations\":{\"a\":\"\\u003c1\\u003e\",\"b\":\"2\"},\"data\":\"e30=\","
      "\"platform\":{\"architecture\":\"arm\",\"os\":\"linux\",\"os.version\":\"1\","
      "\"os.features\":[\"f\"],\"variant\":\"v7\"}}");
  const auto read = DescriptorFromJson(json);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(DescriptorToJson(*read), json);
}

TEST(ManifestTest, ReferencesOfManifestsAndIndexes) {
  Manifest manifest;
  manifest.media_type = kDockerManifest;
  manifest.config = Entry(kDockerConfig, "c");
  manifest.layers = {Entry("l", "1"), Entry("l", "2")};
  const auto references = References(manifest.ToJson());
  ASSERT_TRUE(references.ok()) << references.status();
  ASSERT_EQ(references->size(), 3u);
  EXPECT_EQ((*references)[0].descriptor.digest, Digest::Of("c"));
  EXPECT_EQ((*references)[2].descriptor.digest, Digest::Of("2"));
  Index index;
  index.media_type = kOciIndex;
  index.manifests = {Entry(kOciManifest, "m")};
  EXPECT_EQ(References(index.ToJson())->size(), 1u);
}

TEST(ManifestTest, BadReferencesAreRefused) {
  for (const char* text :
       {"", "null", "{}", "{\"manifests\":3}", "{\"manifests\":[{}]}",
        "{\"config\":{\"digest\":\"sha256:00\",\"size\":1}}",
        "{\"manifests\":[{\"digest\":"
        "\"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\","
        "\"size\":-1}]}"})
    EXPECT_FALSE(References(text).ok()) << text;
}

TEST(MediaTypesTest, LayersInBothFamilies) {
  const MediaTypes docker{.oci = false}, oci{.oci = true};
  EXPECT_EQ(docker.Layer(store::kOciLayerZstd),
            "application/vnd.docker.image.rootfs.diff.tar.zstd");
  EXPECT_EQ(oci.Layer("application/vnd.docker.image.rootfs.diff.tar.gzip"), store::kOciLayerGzip);
  EXPECT_EQ(docker.Layer("text/plain"), "text/plain");
  EXPECT_EQ(DistributableLayer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            store::kOciLayerGzip);
  EXPECT_TRUE(IsForeignLayer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
  EXPECT_FALSE(IsForeignLayer(store::kOciLayerGzip));
}

}  // namespace
}  // namespace kiln::daemon
