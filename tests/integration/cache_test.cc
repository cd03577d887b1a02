// Caches in a real registry, through a real kilnd: images-and-cache.md 7.1, by number.

#include <sys/stat.h>
#include <utime.h>

#include <filesystem>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/llb/file_action.h"
#include "tests/daemon/remotecache/actions_server.h"
#include "tests/daemon/remotecache/s3_server.h"
#include "tests/integration/image_fixture.h"

namespace kiln::integration {
namespace {

namespace llb = client::llb;
using Json = nlohmann::json;
using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::StartsWith;

constexpr char kRandom[] = "head -c 16 /dev/urandom > /random";
constexpr char kCacheConfig[] = "application/vnd.buildkit.cacheconfig.v0";

class CacheTest : public ImageBuildTest {
 protected:
  static llb::State RandomStep() { return BaseImage().Run(Step("random", kRandom)).Root(); }
  // Its file alone, so that the layers of the step are not in the result.
  static llb::State RandomFile() {
    return llb::State().File(llb::Copy(RandomStep(), "/random", "/random"));
  }
  static client::CacheEntry BucketCache(const daemon::S3Server& server) {
    return {"s3",
            {{"bucket", daemon::S3Server::kBucket},
             {"region", daemon::S3Server::kRegion},
             {"endpoint_url", server.url()},
             {"use_path_style", "true"},
             {"access_key_id", daemon::S3Server::kId},
             {"secret_access_key", daemon::S3Server::kSecret},
             {"mode", "max"}}};
  }
  static Json CacheOf(const std::string& repository) {
    return Blob(repository, Manifest(repository, "latest").at("config").at("digest"));
  }
  // Of a client's folder.
  static std::string FolderBlob(const std::string& folder, const std::string& digest) {
    return Slurp(absl::StrCat(folder, "/blobs/sha256/", digest.substr(sizeof("sha256:") - 1)));
  }
  static Json FolderManifest(const std::string& folder) {
    const Json index = Json::parse(Slurp(folder + "/index.json"));
    return Json::parse(FolderBlob(folder, index.at("manifests").at(0).at("digest")));
  }
};

TEST_F(CacheTest, C01_AllOfABuildComesBackFromTheRegistry) {
  for (const llb::State& state : {RandomStep(), RandomFile()}) {
    const std::string first =
        Content({.state = state, .to = {RegistryCache(In("c1"), {{"mode", "max"}})}}, "random");
    ASSERT_EQ(first.size(), 16u);
    Prune();
    SeenProgress seen;
    EXPECT_EQ(Content({.state = state, .from = {RegistryCache(In("c1"))}}, "random", &seen), first);
    EXPECT_FALSE(Ran(seen, "random"));
    Prune();
    EXPECT_NE(Content({.state = state}, "random"), first) << "nothing else remembers it";
    Prune();
  }
}

TEST_F(CacheTest, ACacheThatIsThereAlreadyCostsOneHead) {
  const ImageBuild build{.state = RandomStep(),
                         .to = {RegistryCache(In("again"), {{"mode", "max"}})}};
  ASSERT_TRUE(Solve(build).ok());
  const auto requests = [&](const std::string& mark) {
    // What is asked for last is written last.
    HasManifest("again", mark);
    const absl::Time end = absl::Now() + absl::Seconds(20);
    while (registry().Requests({mark + " HTTP/1.1\""}).empty() && absl::Now() < end)
      absl::SleepFor(absl::Milliseconds(10));
    return registry().Requests({"/v2/again/", " HTTP/1.1\""});
  };
  const std::vector<std::string> before = requests("mark-1");
  ASSERT_TRUE(Solve(build).ok());
  const std::vector<std::string> after = requests("mark-2");
  ASSERT_EQ(after.size(), before.size() + 2);
  EXPECT_THAT(after[before.size()], HasSubstr("HEAD /v2/again/manifests/latest"));
}

TEST_F(CacheTest, C02_ModeMinHasTheLastStageOnly) {
  const std::string first =
      Content({.state = RandomFile(), .to = {RegistryCache(In("c2"))}}, "random");
  Prune();
  SeenProgress seen;
  EXPECT_EQ(Content({.state = RandomFile(), .from = {RegistryCache(In("c2"))}}, "random", &seen),
            first);
  EXPECT_FALSE(Ran(seen, "random"));
  Prune();
  SeenProgress again;
  EXPECT_NE(Content({.state = RandomStep(), .from = {RegistryCache(In("c2"))}}, "random", &again),
            first);
  EXPECT_TRUE(Ran(again, "random"));
}

TEST_F(CacheTest, C04_ALostBlobLeavesItsRecord) {
  ASSERT_TRUE(
      Solve({.state = RandomFile(), .to = {RegistryCache(In("c4"), {{"mode", "max"}})}}).ok());
  const Json before = CacheOf("c4");
  ASSERT_EQ(before.at("layers").size(), 3u);
  ASSERT_EQ(before.at("records").size(), 5u);
  std::string lost;  // the one above another: the step's
  for (const Json& layer : before.at("layers"))
    if (!layer.contains("parent") || layer.at("parent") != -1) lost = layer.at("blob");
  ASSERT_TRUE(registry().DeleteBlob("c4", lost).ok());
  Prune();
  SeenProgress seen;
  const auto done = Solve({.state = RandomFile(),
                           .outputs = {ToFolder(dir_.path())},
                           .to = {RegistryCache(In("c4-again"), {{"mode", "max"}})},
                           .from = {RegistryCache(In("c4"))}},
                          &seen);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_FALSE(Ran(seen, "random"));
  const Json after = CacheOf("c4-again");
  EXPECT_EQ(after.at("layers").size(), 1u);
  ASSERT_EQ(after.at("records").size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    const Json &one = before.at("records")[i], &other = after.at("records")[i];
    EXPECT_EQ(one.at("digest"), other.at("digest"));
    EXPECT_EQ(one.value("inputs", Json()), other.value("inputs", Json()));
  }
}

TEST_F(CacheTest, C05_InlineCacheGivesTheSameImage) {
  const client::CacheEntry inside = {"inline", {}};
  const auto first =
      Solve({.state = RandomStep(), .outputs = {ToRegistry(In("c5"))}, .to = {inside}});
  ASSERT_TRUE(first.ok()) << first.status();
  Prune();
  SeenProgress seen;
  const auto second = Solve({.state = RandomStep(),
                             .outputs = {ToRegistry(In("c5-again"))},
                             .to = {inside},
                             .from = {RegistryCache(In("c5"))}},
                            &seen);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_FALSE(Ran(seen, "random"));
  EXPECT_EQ(first->at("containerimage.digest"), second->at("containerimage.digest"));
}

TEST_F(CacheTest, C06_AMissingImportConcernsNobodyElse) {
  const std::string first = Content(
      {.state = RandomStep(), .to = {RegistryCache(In("c6"), {{"mode", "max"}})}}, "random");
  Prune();
  SeenProgress seen;
  EXPECT_EQ(Content({.state = RandomStep(),
                     .from = {RegistryCache(In("c6")), RegistryCache(In("nothing"))}},
                    "random", &seen),
            first);
  EXPECT_EQ(seen.step("importing cache manifest from " + In("c6") + ":latest").error, "");
  EXPECT_THAT(seen.step("importing cache manifest from " + In("nothing") + ":latest").error,
              HasSubstr("not found"));
}

TEST_F(CacheTest, C07_AnEmptyBuildHasNoCache) {
  const std::vector<Attrs> forms = {{{"image-manifest", "true"}, {"oci-mediatypes", "true"}},
                                    {{"image-manifest", "false"}, {"oci-mediatypes", "true"}},
                                    {{"image-manifest", "false"}, {"oci-mediatypes", "false"}}};
  for (const Attrs& form : forms) {
    SeenProgress seen;
    const auto done = Solve({.to = {RegistryCache(In("c7"), form)}}, &seen);
    EXPECT_TRUE(done.ok()) << done.status();
  }
  EXPECT_FALSE(HasManifest("c7", "latest"));
}

TEST_F(CacheTest, C08_FormsThatExcludeEachOther) {
  SeenProgress seen;
  const auto done = Solve({.state = RandomStep(),
                           .to = {RegistryCache(In("c8"), {{"image-manifest", "true"},
                                                           {"oci-mediatypes", "false"},
                                                           {"ignore-error", "true"}})}},
                          &seen);
  EXPECT_THAT(std::string(done.status().message()),
              HasSubstr("OCI mediatypes are required for image-manifest cache format"));
  EXPECT_FALSE(Ran(seen, "random")) << "said before the build";
}

TEST_F(CacheTest, C09_AnUnreachableCacheFailsUnlessIgnored) {
  const std::string nobody = "127.0.0.1:1/cache";
  for (const bool ignored : {false, true}) {
    const auto done =
        Solve({.state = RandomStep(),
               .to = {RegistryCache(nobody, {{"ignore-error", ignored ? "true" : "false"}})}});
    EXPECT_EQ(done.ok(), ignored) << done.status();
    if (ignored) continue;
    EXPECT_THAT(std::string(done.status().message()),
                testing::AllOf(HasSubstr(nobody), HasSubstr("connect")));
  }
}

TEST_F(CacheTest, C09_TheSameOfABucket) {
  for (const bool ignored : {false, true}) {
    const auto done = Solve({.state = RandomStep(),
                             .to = {{"s3",
                                     {{"bucket", "bucket"},
                                      {"region", "r"},
                                      {"endpoint_url", "http://127.0.0.1:1"},
                                      {"access_key_id", "i"},
                                      {"secret_access_key", "s"},
                                      {"retry_max_attempts", "1"},
                                      {"ignore-error", ignored ? "true" : "false"}}}}});
    EXPECT_EQ(done.ok(), ignored) << done.status();
    if (ignored) continue;
    EXPECT_THAT(std::string(done.status().message()),
                testing::AllOf(HasSubstr("127.0.0.1:1/bucket/blobs/sha256"), HasSubstr("connect")));
  }
}

TEST_F(CacheTest, C16_ABucketKeepsWhatARegistryWould) {
  daemon::S3Server server;
  client::CacheEntry bucket = BucketCache(server);
  const std::string first = Content({.state = RandomFile(), .to = {bucket}}, "random");
  EXPECT_TRUE(server.Get("manifests/buildkit").has_value());
  for (const daemon::TestHttpRequest& request : server.server().requests()) {
    EXPECT_EQ(request.Header("x-amz-sdk-checksum-algorithm"), "");
    EXPECT_EQ(request.Header("x-amz-trailer"), "");
    EXPECT_THAT(request.Header("content-encoding"), testing::Not(HasSubstr("aws-chunked")));
  }
  server.server().Forget();
  EXPECT_EQ(Content({.state = RandomFile(), .to = {bucket}}, "random"), first);
  EXPECT_THAT(server.Seen(),
              testing::UnorderedElementsAre(StartsWith("HEAD blobs/"), StartsWith("HEAD blobs/"),
                                            StartsWith("HEAD blobs/"), "PUT manifests/buildkit"))
      << "nothing is sent or copied again";
  Prune();
  SeenProgress seen;
  const auto fetched = [&] {
    size_t count = 0;
    for (const std::string& request : server.Seen())
      count += absl::StartsWith(request, "GET blobs/") ? 1 : 0;
    return count;
  };
  server.server().Forget();
  ASSERT_TRUE(Solve({.state = RandomFile(), .to = {bucket}, .from = {bucket}}, &seen).ok());
  EXPECT_FALSE(Ran(seen, "random"));
  EXPECT_EQ(fetched(), 0u) << "nobody needed files, and the bucket has all that is exported";
  EXPECT_THAT(server.Seen(), Contains("PUT manifests/buildkit"));
  EXPECT_THAT(server.Seen(), testing::Not(Contains(StartsWith("PUT blobs/"))));
  EXPECT_EQ(Content({.state = RandomFile(), .from = {bucket}}, "random", &seen), first);
  EXPECT_FALSE(Ran(seen, "random"));
  EXPECT_EQ(fetched(), 1u) << "the layer that the file is in";
  // An image that stays here has its layers here, as the bucket cannot be asked later.
  Prune();
  ASSERT_TRUE(Solve({.state = RandomFile(),
                     .outputs = {{"image", {{"name", "kept/here"}}, {}}},
                     .from = {bucket}},
                    &seen)
                  .ok());
  EXPECT_EQ(fetched(), 2u);
  Prune();
  bucket.attrs["name"] = "nothing";
  EXPECT_NE(Content({.state = RandomFile(), .from = {bucket}}, "random"), first);
}

// What a build imported and did not need is no answer to a later one that cannot fetch it.
TEST_F(CacheTest, WhatCannotBeFetchedAnyMoreRunsAgain) {
  daemon::S3Server server;
  const client::CacheEntry bucket = BucketCache(server);
  const std::string first = Content({.state = RandomFile(), .to = {bucket}}, "random");
  for (const llb::State& later :
       {RandomFile(), RandomStep().Run(Step("more", "cp /random /more")).Root(),
        llb::Merge({RandomFile(), llb::State().File(llb::Mkdir("/d", 0755))})}) {
    Prune();
    SeenProgress seen;
    ASSERT_TRUE(Solve({.state = RandomFile(), .from = {bucket}}, &seen).ok());
    EXPECT_FALSE(Ran(seen, "random"));
    const std::string again = Content({.state = later}, "random");
    EXPECT_EQ(again.size(), first.size());
    EXPECT_NE(again, first);
  }
  // Nor is what stands on it.
  const llb::State merged = llb::Merge({RandomFile(), llb::State().File(llb::Mkdir("/d", 0755))});
  Prune();
  ASSERT_TRUE(Solve({.state = merged, .from = {bucket}}).ok());
  const std::string again = Content({.state = merged}, "random");
  EXPECT_EQ(again.size(), first.size());
}

TEST_F(CacheTest, TheActionsCacheKeepsWhatARegistryWould) {
  daemon::ActionsServer server;
  const client::CacheEntry actions = {
      "gha",
      {{"url_v2", server.url()},
       {"token", daemon::ActionsServer::Token({{"refs/heads/main", 3}})},
       {"mode", "max"}}};
  const std::string first = Content({.state = RandomFile(), .to = {actions}}, "random");
  EXPECT_THAT(server.Keys(), testing::SizeIs(4)) << "three layers and the config";
  EXPECT_EQ(Content({.state = RandomFile(), .to = {actions}}, "random"), first);
  EXPECT_THAT(server.Keys(), testing::SizeIs(5)) << "another config";
  Prune();
  SeenProgress seen;
  EXPECT_EQ(Content({.state = RandomFile(), .from = {actions}}, "random", &seen), first);
  EXPECT_FALSE(Ran(seen, "random"));
}

TEST_F(CacheTest, C03_ClientFoldersInAllForms) {
  const auto in_folder = [&](const std::string& name, const Attrs& more) {
    client::CacheEntry cache{"local", more};
    cache.attrs["dest"] = cache.attrs["src"] = dir_.path() + "/" + name;
    cache.attrs["mode"] = "max";
    return cache;
  };
  const std::vector<std::pair<std::string, Attrs>> forms = {
      {"gzip", {}},
      {"zstd", {{"compression", "zstd"}, {"force-compression", "true"}}},
      {"plain", {{"compression", "uncompressed"}, {"force-compression", "true"}}},
      {"index",
       {{"image-manifest", "false"}, {"compression", "zstd"}, {"force-compression", "true"}}}};
  for (const auto& [name, form] : forms) {
    SCOPED_TRACE(name);
    const client::CacheEntry cache = in_folder(name, form);
    const std::string first = Content({.state = RandomFile(), .to = {cache}}, "random");
    Prune();
    SeenProgress seen;
    EXPECT_EQ(Content({.state = RandomFile(), .from = {cache}}, "random", &seen), first);
    EXPECT_FALSE(Ran(seen, "random"));
    Prune();
  }
  const std::string folder = dir_.path() + "/index";
  const Json entries = FolderManifest(folder).at("manifests");
  ASSERT_GE(entries.size(), 2u);
  EXPECT_EQ(entries.back().at("mediaType"), kCacheConfig);
  const Json& layer = entries.at(entries.size() - 2);
  EXPECT_EQ(layer.at("mediaType"), "application/vnd.oci.image.layer.v1.tar+zstd");
  EXPECT_THAT(FolderBlob(folder, layer.at("digest")), StartsWith("\x28\xb5\x2f\xfd"));
}

TEST_F(CacheTest, C09_TheSameOfAClientFolder) {
  for (const bool ignored : {false, true}) {
    const auto done =
        Solve({.state = RandomStep(),
               .to = {{"local",
                       {{"dest", "/proc/cache"}, {"ignore-error", ignored ? "true" : "false"}}}}});
    EXPECT_EQ(done.ok(), ignored) << done.status();
    if (ignored) continue;
    EXPECT_THAT(std::string(done.status().message()), HasSubstr("/proc/cache"));
  }
}

TEST_F(CacheTest, C10_ResetLeavesTheLatestCacheOnly) {
  const std::string folder = dir_.path() + "/cache";
  const client::CacheEntry cache = {"local",
                                    {{"dest", folder}, {"mode", "max"}, {"reset", "true"}}};
  const auto step = [](const std::string& nonce) {
    return BaseImage().Run(Step("random", absl::StrCat(kRandom, " # ", nonce))).Root();
  };
  ASSERT_TRUE(Solve({.state = step("one"), .to = {cache}}).ok());
  ASSERT_TRUE(Solve({.state = step("two"), .to = {cache}}).ok());
  const Json index = Json::parse(Slurp(folder + "/index.json"));
  ASSERT_EQ(index.at("manifests").size(), 1u);
  const Json manifest = FolderManifest(folder);
  std::set<std::string> named = {index.at("manifests")[0].at("digest"),
                                 manifest.at("config").at("digest")};
  for (const Json& layer : manifest.at("layers")) named.insert(layer.at("digest"));
  std::set<std::string> there;
  for (const auto& file : std::filesystem::directory_iterator(folder + "/blobs/sha256"))
    there.insert("sha256:" + file.path().filename().string());
  EXPECT_EQ(there, named);
}

TEST_F(CacheTest, C11_SeveralCachesOfOneBuild) {
  const std::string one = dir_.path() + "/one", other = dir_.path() + "/other";
  const client::CacheEntry inside = {"inline", {}};
  const auto first = Solve({.state = RandomStep(),
                            .outputs = {ToRegistry(In("c11"))},
                            .to = {{"local", {{"dest", one}}},
                                   {"local", {{"dest", other}, {"image-manifest", "false"}}},
                                   RegistryCache(In("c11-cache")),
                                   inside}});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(FolderManifest(one).contains("config")) << "each names its own";
  EXPECT_TRUE(FolderManifest(other).contains("manifests"));
  EXPECT_TRUE(HasManifest("c11-cache", "latest"));
  const auto second =
      Solve({.state = RandomStep(), .outputs = {ToRegistry(In("c11"))}, .to = {inside}});
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(first->at("containerimage.digest"), second->at("containerimage.digest"));
}

TEST_F(CacheTest, C12_NothingIsLeftOfAnImport) {
  // Two ways to one layer.
  const absl::Time then = absl::FromUnixSeconds(1'000'000'000);
  const llb::State one =
      llb::State().File(llb::Mkfile("/same", 0644, "content", {.created = then}));
  const llb::State other =
      llb::State().File(llb::Copy(llb::State().File(llb::Mkfile("/same", 0644, "content")), "/same",
                                  "/same", {.created = then}));
  const auto done = Solve({.state = llb::Merge({one, other}),
                           .outputs = {ToFolder(dir_.path() + "/all")},
                           .to = {RegistryCache(In("c12"), {{"mode", "max"}})}});
  ASSERT_TRUE(done.ok()) << done.status();
  Prune();
  EXPECT_EQ(Content({.state = other, .from = {RegistryCache(In("c12"))}}, "same"), "content");
  Prune();
  EXPECT_THAT(Kiln({"du"}), HasSubstr("Total:\t\t0B"));
}

TEST_F(CacheTest, C15_LayersAreOfTheTypesAskedFor) {
  ASSERT_TRUE(Solve({.state = base_.state(),
                     .outputs = {ToRegistry(In("docker-base"), {{"oci-mediatypes", "false"}})}})
                  .ok());
  ASSERT_THAT(std::string(Manifest("docker-base", "latest").at("layers")[0].at("mediaType")),
              StartsWith("application/vnd.docker."));
  const llb::State state =
      llb::Image(In("docker-base")).AddEnv("PATH", "/bin").Run(Step("random", kRandom)).Root();
  const auto types = [&](const Attrs& form) {
    Attrs attrs = form;
    attrs["mode"] = "max";
    EXPECT_TRUE(Solve({.state = state, .to = {RegistryCache(In("c15"), attrs)}}).ok());
    std::vector<std::string> found;
    const Json manifest = Manifest("c15", "latest");
    for (const Json& entry : manifest.at(manifest.contains("layers") ? "layers" : "manifests"))
      if (entry.at("mediaType") != kCacheConfig) found.push_back(entry.at("mediaType"));
    EXPECT_EQ(found.size(), 2u);
    return found;
  };
  EXPECT_THAT(types({}), Each(StartsWith("application/vnd.oci.image.layer.v1")));
  EXPECT_THAT(types({{"oci-mediatypes", "false"}}),
              Each(StartsWith("application/vnd.docker.image.rootfs.diff")));
}

TEST_F(CacheTest, C19_WhatOfAContextCounts) {
  TempDir source;
  source.Write("file", "content");
  const std::string file = source.path() + "/file";
  const auto build = [&] {
    const llb::State context = llb::State().File(llb::Copy(
        llb::Local("src", {.shared_key_hint = "src"}), "/", "/", {.dir_contents_only = true}));
    llb::ExecState exec = BaseImage().Run(Step("random", kRandom));
    exec.AddMount({.target = "/src", .source = context, .readonly = true, .no_output = true});
    return ImageBuild{.state = exec.Root(),
                      .from = {RegistryCache(In("c19"))},
                      .locals = {{"src", source.path()}}};
  };
  ImageBuild first = build();
  first.from.clear();
  first.to = {RegistryCache(In("c19"), {{"mode", "max"}})};
  const std::string content = Content(first, "random");

  Prune();
  utimbuf times = {1'000'000'000, 1'000'000'000};
  ASSERT_EQ(::utime(file.c_str(), &times), 0);
  EXPECT_EQ(Content(build(), "random"), content) << "another time";
  Prune();
  ASSERT_EQ(::chown(file.c_str(), 1000, 1000), 0);
  EXPECT_EQ(Content(build(), "random"), content) << "another owner";
  Prune();
  ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
  EXPECT_NE(Content(build(), "random"), content) << "another mode";
}

}  // namespace
}  // namespace kiln::integration
