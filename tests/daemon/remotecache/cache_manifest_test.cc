#include "daemon/remotecache/cache_manifest.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

CacheExport Small() {
  CacheExport cache;
  CacheConfig::Record base, step;
  base.digest = Digest::Of("base");
  step.digest = Digest::Of("step");
  step.inputs = {{{"", 0}}};
  step.results = {{0, absl::FromUnixSeconds(1)}};
  cache.config.records = {base, step};
  store::LayerBlob blob;
  blob.descriptor = {store::kOciLayerGzip, Digest::Of("blob"), 7, {}, {}};
  blob.diff_id = Digest::Of("diff");
  blob.created_at = absl::FromUnixSeconds(2);
  cache.config.layers = {{blob.descriptor.digest, -1, {}}, {blob.descriptor.digest, 0, {}}};
  cache.layers = {{blob, nullptr}, {blob, nullptr}};
  return cache;
}

TEST(CacheManifest, ImageForm) {
  const CacheManifest manifest = MakeCacheManifest(Small(), {});
  EXPECT_THAT(
      manifest.json,
      StartsWith(absl::StrCat(
          R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",)"
          R"("config":{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":")",
          Digest::Of(manifest.config_json).ToString(), R"(","size":)", manifest.config_json.size(),
          R"(},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":")",
          Digest::Of("blob").ToString(),
          R"(","size":7,"annotations":{"buildkit/createdat":"1970-01-01T00:00:02Z",)"
          R"("containerd.io/uncompressed":")",
          Digest::Of("diff").ToString(), R"("}},)")));
  EXPECT_EQ(manifest.layers.size(), 1u);  // once to send, twice to name
  EXPECT_EQ(manifest.descriptor.digest, Digest::Of(manifest.json));
  const auto read = ReadCacheManifest(manifest.json, "repo");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->config->digest, manifest.config.digest);
  ASSERT_EQ(read->layers.size(), 2u);
  EXPECT_EQ(read->layers[0].diff_id, Digest::Of("diff"));
  EXPECT_EQ(read->layers[0].origin, "repo");
  EXPECT_EQ(read->layers[0].created_at, absl::FromUnixSeconds(2));
  EXPECT_TRUE(read->layers[0].descriptor.annotations.empty());
}

// Scenario C3: in an index the config is the last entry.
TEST(CacheManifest, C3_IndexForm) {
  for (bool oci : {true, false}) {
    const CacheManifest manifest = MakeCacheManifest(Small(), {oci, false});
    EXPECT_THAT(manifest.json, HasSubstr(oci ? "application/vnd.oci.image.index.v1+json"
                                             : "application/vnd.docker.distribution.manifest.list"
                                               ".v2+json"));
    EXPECT_THAT(manifest.json, HasSubstr(oci ? "vnd.oci.image.layer.v1.tar+gzip"
                                             : "vnd.docker.image.rootfs.diff.tar.gzip"));
    EXPECT_GT(manifest.json.find("cacheconfig"), manifest.json.rfind("containerd.io"));
    const auto read = ReadCacheManifest(manifest.json, "repo");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_TRUE(read->config.has_value());
    // Scenario C15: OCI types inside, whatever is outside.
    EXPECT_EQ(read->layers.at(0).descriptor.media_type, store::kOciLayerGzip);
  }
}

TEST(CacheManifest, LayersWithoutDiffIdAreNotUsable) {
  const std::string d = Digest::Of("x").ToString();
  const auto read = ReadCacheManifest(
      absl::StrCat(R"({"config":{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":")",
                   d, R"(","size":1},"layers":[{"mediaType":")", store::kOciLayerGzip,
                   R"(","digest":")", d, R"(","size":1},{"mediaType":")", store::kOciLayerTar,
                   R"(","digest":")", d, R"(","size":1}]})"),
      "");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->layers.size(), 1u);
  EXPECT_EQ(read->layers[0].diff_id.ToString(), d);
  EXPECT_FALSE(ReadCacheManifest("[]", "").ok());
  EXPECT_FALSE(ReadCacheManifest("{", "").ok());
}

TEST(CacheManifest, InlineCacheOfAnImage) {
  const std::string records =
      absl::StrCat(R"([{"digest":")", Digest::Of("base").ToString(),
                   R"("},{"layers":[{"layer":1,"createdAt":"2024-01-01T00:00:00Z"}],"digest":")",
                   Digest::Of("step").ToString(), R"(","inputs":[[{"link":0}]]}])");
  const std::string config = absl::StrCat(
      R"({"rootfs":{"type":"layers","diff_ids":[")", Digest::Of("d0").ToString(), R"(",")",
      Digest::Of("d1").ToString(),
      R"("]},"history":[{"created_by":"first","created":"2020-01-01T00:00:00Z"},{"empty_layer":true},{"created_by":"second"}],"moby.buildkit.cache.v0":")",
      absl::Base64Escape(records), R"("})");
  const std::vector<store::Descriptor> layers = {
      {"application/vnd.docker.image.rootfs.diff.tar.gzip", Digest::Of("b0"), 1, {}, {}},
      {store::kOciLayerGzip, Digest::Of("b1"), 1, {}, {}}};
  const auto read = ReadInlineCache(config, layers, "repo");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_TRUE(read->has_value());
  EXPECT_EQ((*read)->config.layers[1].parent, 0);
  const store::LayerBlob& second = (*read)->blobs.at(Digest::Of("b1"));
  EXPECT_EQ(second.description, "second");
  EXPECT_EQ((*read)->blobs.at(Digest::Of("b0")).descriptor.media_type, store::kOciLayerGzip);
  // A manifest that does not fit, an image without a cache, a result past the layers.
  EXPECT_FALSE(ReadInlineCache(config, {layers.data(), 1}, "repo")->has_value());
  EXPECT_FALSE(ReadInlineCache("{}", layers, "repo")->has_value());
  const std::string far =
      absl::StrCat(R"({"rootfs":{"diff_ids":[")", Digest::Of("d0").ToString(),
                   R"("]},"moby.buildkit.cache.v0":")", absl::Base64Escape(records), R"("})");
  EXPECT_FALSE(ReadInlineCache(far, {layers.data(), 1}, "repo").ok());
}

}  // namespace
}  // namespace kiln::daemon
