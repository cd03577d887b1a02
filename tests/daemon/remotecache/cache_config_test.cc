#include "daemon/remotecache/cache_config.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/cache_index.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;

Digest D(char c) { return *Digest::Parse(absl::StrCat("sha256:", std::string(64, c))); }

// In texts below: @a is the digest of 64 times "a".
std::string Expand(std::string text) {
  for (char c : std::string("0123456789abcdef"))
    text = absl::StrReplaceAll(text, {{absl::StrCat("@", std::string(1, c)), D(c).ToString()}});
  return text;
}

// images-and-cache.md 4.6, the vectors.
TEST(CacheKeys, C18_RecordDigests) {
  using store::CacheIndex;
  const Digest exec = Digest::Of(
      R"({"Type":"buildkit.exec.v0","Exec":{"meta":{"args":["/bin/sh","-c","echo a \u0026\u0026 echo b \u003e /x"],"env":["PATH=/bin"],"cwd":"/"}},"OS":"linux","Arch":"amd64"})");
  EXPECT_EQ(exec.hex(), "6df34354b5f12bc38aa6502e66762dc7a534d1147cc286448c571a03cfb58e4c");
  EXPECT_EQ(CacheIndex::RootKey({exec.ToString(), 0}).hex(),
            "b6c8d869de730ee50fc3d48e274a00ef8753139b8037031d1c1d9382341dbb30");
  const Digest image = Digest::Of(absl::StrCat(R"({"Digest":"sha256:)", std::string(64, '0'),
                                               R"(","OS":"linux","Arch":"amd64"})"));
  EXPECT_EQ(image.hex(), "4e662f7eafb184089d97341786065cacfa4f38a2c87fff9b06a458edd18d2bf2");
  const Digest source = Digest::Of(absl::StrCat("buildkit.source.v0:", image.ToString()));
  EXPECT_EQ(source.hex(), "f5199b7577871626a07c83c5ca3dfa3dd9faa4dd8b3ad862ae1ea3bc93229d62");
  EXPECT_EQ(CacheIndex::RootKey({source.ToString(), 0}).hex(),
            "a70986925e3759d2ceb01829c55a358f3b92fb6cfdb432d9a26eed92420031b1");
  const Digest file =
      *Digest::Parse("sha256:cd8e75bca50f2d695f220d0cb0997d8ead387e4f926e8669a92d7f104cc9885b");
  const Digest dep = Digest::Of(file.ToString());
  EXPECT_EQ(dep.hex(), "5dfbff503f5420b974c042ac3d7aeb87927756727baf7ece30fb27e2bb81bf10");
  EXPECT_EQ(CacheIndex::ContentKey(dep.ToString()).hex(),
            "b88a9c4243282beb112eb41ce8173ef66efdfac809f808f826115cb460439689");
  EXPECT_EQ(Digest::Of("/").hex(),
            "8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1");
}

constexpr char kSmall[] =
    R"({"layers":[{"blob":"@a","parent":-1},{"blob":"@b"}],)"
    R"("records":[{"digest":"@1"},)"
    R"({"layers":[{"layer":1,"createdAt":"2024-05-06T07:08:09.1002Z"}],"digest":"@2",)"
    R"("inputs":[[{"selector":"a\u0026\u003cb","link":0}]]}]})";

TEST(CacheConfig, IsWrittenAsGoDoes) {
  const auto config = ParseCacheConfig(Expand(kSmall));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0].parent, -1);
  EXPECT_EQ(config->layers[1].parent, 0);  // absent
  EXPECT_EQ(config->records[1].inputs[0][0].selector, "a&<b");
  EXPECT_EQ(CacheConfigJson(*config), Expand(kSmall));
}

TEST(CacheConfig, AnnotationsAndChains) {
  const std::string text = Expand(
      R"({"layers":[{"blob":"@a","parent":-1,"annotations":{"mediaType":"m","diffID":"@c","size":5,"createdAt":"0001-01-01T00:00:00Z"}}],)"
      R"("records":[{"chains":[{"layers":[0,0],"createdAt":"2024-05-06T07:08:09Z"}],"digest":"@1"}]})");
  const auto config = ParseCacheConfig(text);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0].annotations->size_bytes, 5);
  EXPECT_EQ(config->layers[0].annotations->created_at, absl::InfinitePast());
  EXPECT_EQ(CacheConfigJson(*config), text);
}

TEST(CacheConfig, ForeignMembersAndZones) {
  const auto config = ParseCacheConfig(Expand(
      R"({"new":[{"records":{"digest":7}},1.5,null],"records":[{"x":{"digest":"?"},"digest":"@1",)"
      R"("layers":[{"layer":0,"createdAt":"2024-05-06T09:08:09.5+02:00","y":[[]]}]}],)"
      R"("layers":[{"blob":"@a","parent":-1,"z":false}]})"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(GoTimeText(config->records[0].results[0].created_at), "2024-05-06T07:08:09.5Z");
  EXPECT_TRUE(ParseCacheConfig("{}").ok());
  EXPECT_TRUE(ParseCacheConfig(R"({"layers":null,"records":null})").ok());
}

struct BadConfig {
  const char* name;
  const char* text;
  const char* fault;
};
class BadCacheConfig : public testing::TestWithParam<BadConfig> {};

TEST_P(BadCacheConfig, IsRefused) {
  const auto config = ParseCacheConfig(Expand(GetParam().text));
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().fault));
}

// Scenario C13 of images-and-cache.md 7.1, llb.md 8 rule 3.
INSTANTIATE_TEST_SUITE_P(
    C13, BadCacheConfig,
    testing::ValuesIn<BadConfig>({
        {"Empty", "", "malformed JSON"},
        {"Cut", R"({"records":[{"digest":"@1")", "malformed JSON"},
        {"Tail", "{}{}", "malformed JSON"},
        {"List", "[]", "unexpected a list"},
        {"Utf8", "{\"a\":\"\xff\"}", "malformed JSON"},
        {"NoDigest", R"({"records":[{}]})", "record 0 has no digest"},
        {"NoBlob", R"({"layers":[{"parent":-1}]})", "layer 0 has no blob"},
        {"Md5", R"({"records":[{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e"}]})",
         "cache config"},
        {"SelfLoop", R"({"records":[{"digest":"@1","inputs":[[{"link":0}]]}]})",
         "invalid looping record"},
        {"Loop",
         R"({"records":[{"digest":"@1","inputs":[[{"link":1}]]},{"digest":"@2","inputs":[[{"link":0}]]}]})",
         "invalid looping record"},
        {"FarLink", R"({"records":[{"digest":"@1","inputs":[[{"link":9}]]}]})",
         "invalid record ID: 9"},
        {"MinusLink", R"({"records":[{"digest":"@1","inputs":[[{"link":-1}]]}]})",
         "invalid record ID: -1"},
        {"NoAlternatives", R"({"records":[{"digest":"@1","inputs":[[]]}]})",
         "invalid empty input for record 0"},
        {"NullAlternatives", R"({"records":[{"digest":"@1","inputs":[null]}]})",
         "invalid empty input for record 0"},
        {"LayerLoop", R"({"layers":[{"blob":"@a","parent":1},{"blob":"@b"}]})",
         "invalid looping layer"},
        {"LayerSelf", R"({"layers":[{"blob":"@a"}]})", "invalid looping layer"},
        {"FarParent", R"({"layers":[{"blob":"@a","parent":3}]})", "invalid layer index 3"},
        {"FarResult", R"({"records":[{"digest":"@1","layers":[{"layer":0}]}]})",
         "invalid layer index 0"},
        {"FarChain", R"({"records":[{"digest":"@1","chains":[{"layers":[2]}]}]})",
         "invalid layer index 2"},
        {"HugeIndex", R"({"layers":[{"blob":"@a","parent":99999999999999999999}]})", "unexpected"},
        {"Time",
         R"({"layers":[{"blob":"@a","parent":-1}],"records":[{"digest":"@1","layers":[{"layer":0,"createdAt":"yesterday"}]}]})",
         "invalid time"},
        {"WrongType", R"({"records":{"digest":"@1"}})", "unexpected an object in \"records\""},
        {"NullRecord", R"({"records":[null]})", "null in a list"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST(CacheConfig, HostileNestingIsCheap) {
  EXPECT_THAT(std::string(ParseCacheConfig(std::string(1 << 20, '[')).status().message()),
              HasSubstr("unexpected a list"));
  std::string deep = R"({"x":)";
  deep.append(1 << 20, '[');
  EXPECT_THAT(std::string(ParseCacheConfig(deep).status().message()), HasSubstr("too deeply"));
  EXPECT_EQ(ParseCacheConfig(std::string((64 << 20) + 1, ' ')).status().code(),
            absl::StatusCode::kResourceExhausted);
}

// A long chain costs neither a stack nor more than a pass.
TEST(CacheConfig, DeepChainsAreFine) {
  CacheConfig config;
  for (int i = 0; i < 100000; ++i) {
    config.layers.push_back({Digest::Of(absl::StrCat(i)), i - 1, std::nullopt});
    CacheConfig::Record record;
    record.digest = Digest::Of(absl::StrCat("r", i));
    if (i > 0) record.inputs = {{{"", i - 1}}};
    record.results = {{i, absl::UnixEpoch()}};
    config.records.push_back(std::move(record));
  }
  SortCacheConfig(&config);
  const auto again = ParseCacheConfig(CacheConfigJson(config));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(CacheConfigJson(*again), CacheConfigJson(config));
}

// Scenario C14: whatever order a cache comes in, its bytes are the same.
TEST(CacheConfig, C14_OrderDoesNotMatter) {
  CacheConfig config;
  for (int i = 0; i < 20; ++i)
    config.layers.push_back({Digest::Of(absl::StrCat(i / 2)), i < 4 ? -1 : i / 2, std::nullopt});
  for (int i = 0; i < 30; ++i) {
    CacheConfig::Record record;
    record.digest = Digest::Of(absl::StrCat("r", i));
    if (i > 3) record.inputs = {{{"", i - 1}, {"s", i - 2}, {"", i - 3}}, {{"", i / 2}}};
    record.results = {{i % 20, absl::UnixEpoch()}};
    config.records.push_back(std::move(record));
  }
  CacheConfig sorted = config;
  SortCacheConfig(&sorted);
  const std::string want = CacheConfigJson(sorted);
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    std::vector<int> order(config.records.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    std::shuffle(order.begin(), order.end(), random);  // old -> new
    CacheConfig mixed = config;
    for (size_t i = 0; i < order.size(); ++i) {
      CacheConfig::Record record = config.records[i];
      for (auto& alternatives : record.inputs) {
        std::shuffle(alternatives.begin(), alternatives.end(), random);
        for (auto& input : alternatives) input.link = order[input.link];
      }
      mixed.records[order[i]] = std::move(record);
    }
    SortCacheConfig(&mixed);
    EXPECT_EQ(CacheConfigJson(mixed), want);
  }
}

TEST(CacheConfig, BareRecords) {
  const std::string text = Expand(R"([{"layers":[{"layer":1,"createdAt":"2024-01-01T00:00:00Z"}],)"
                                  R"("digest":"@1"}])");
  const auto records = ParseCacheRecords(text);
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_EQ(CacheRecordsJson(*records), text);
  EXPECT_FALSE(ParseCacheRecords("{}").ok());
}

}  // namespace
}  // namespace kiln::daemon
