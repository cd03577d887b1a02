#include "daemon/remotecache/object_cache.h"

#include <gtest/gtest.h>

namespace kiln::daemon {
namespace {

CacheExport TwoLayers() {
  CacheExport cache;
  for (const char* name : {"one", "two"}) {
    store::LayerBlob blob;
    blob.descriptor.media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    blob.descriptor.digest = Digest::Of(name);
    blob.descriptor.size_bytes = 17;
    blob.diff_id = Digest::Of(std::string("diff ") + name);
    blob.created_at = absl::FromUnixSeconds(1'700'000'000);
    cache.config.layers.push_back(
        {blob.descriptor.digest, static_cast<int>(cache.layers.size()) - 1, std::nullopt});
    cache.layers.push_back({blob, nullptr});
  }
  CacheConfig::Record record;
  record.digest = Digest::Of("record");
  record.results.push_back({1, absl::FromUnixSeconds(1'700'000'000)});
  cache.config.records.push_back(record);
  return cache;
}

TEST(AnnotatedConfig, LayersSayWhatTheyAre) {
  const CacheExport cache = TwoLayers();
  const auto read = ReadAnnotatedConfig(AnnotatedConfigJson(cache));
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->blobs.size(), 2u);
  const store::LayerBlob& two = read->blobs.at(Digest::Of("two"));
  EXPECT_EQ(two.diff_id, Digest::Of("diff two"));
  EXPECT_EQ(two.descriptor.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
  EXPECT_EQ(two.descriptor.size_bytes, 17);
  EXPECT_EQ(two.created_at, absl::FromUnixSeconds(1'700'000'000));
  EXPECT_EQ(read->config.layers[1].parent, 0);
}

TEST(AnnotatedConfig, LayersThatDoNotAreOfNoUse) {
  const auto read = ReadAnnotatedConfig(CacheConfigJson(TwoLayers().config));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->blobs.empty());
  EXPECT_FALSE(ReadAnnotatedConfig("[]").ok());
}

}  // namespace
}  // namespace kiln::daemon
