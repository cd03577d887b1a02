// A real registry and a real kilnd: what is pulled when, and who may (images-and-cache.md 7.1).

#include <cstdlib>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/llb/file_action.h"
#include "tests/integration/image_fixture.h"

namespace kiln::integration {
namespace {

namespace llb = client::llb;
using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr char kRandom[] = "head -c 16 /dev/urandom > /random";

class RegistryTest : public ImageBuildTest {
 protected:
  static llb::State ThreeLayers() {
    return llb::State()
        .File(llb::Mkfile("/one", 0644, "1"))
        .File(llb::Mkfile("/two", 0644, "2"))
        .File(llb::Mkfile("/three", 0644, "3"));
  }
  static std::vector<std::string> LayersOf(const std::string& repository) {
    std::vector<std::string> digests;
    const Json manifest = Manifest(repository, "latest");
    for (const Json& layer : manifest.at("layers")) digests.push_back(layer.at("digest"));
    return digests;
  }
};

TEST_F(RegistryTest, P06_DifferenceOfALimitedImage) {
  ASSERT_TRUE(Solve({.state = ThreeLayers(), .outputs = {ToRegistry(In("p6"))}}).ok());
  Prune();
  const auto done =
      Solve({.state = llb::Diff(llb::Image(In("p6"), {.layer_limit = 2}), llb::Image(In("p6"))),
             .outputs = {ToFolder(dir_.path() + "/out")}});
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(Slurp(dir_.path() + "/out/three"), "3");
  EXPECT_EQ(Output({"ls", dir_.path() + "/out"}), "three\n");
}

TEST_F(RegistryTest, P19P20_LayersTravelOnceAndOnlyWhenNeeded) {
  const llb::State made = BaseImage().File(llb::Mkfile("/more", 0644, "more"));
  ASSERT_TRUE(Solve({.state = made, .outputs = {ToRegistry(In("p20"))}}).ok());
  const std::vector<std::string> layers = LayersOf("p20");
  ASSERT_THAT(layers, SizeIs(2));
  Prune();
  const auto fetched = [&](const std::string& layer, size_t expected) {
    return registry().Requests({"GET /v2/p20/blobs/" + layer}, expected);
  };

  const llb::State image = llb::Image(In("p20")).AddEnv("PATH", "/bin");
  ASSERT_TRUE(Solve({.state = image, .outputs = {ToRegistry(In("p20") + ":other")}}).ok());
  ASSERT_TRUE(Solve({.state = image, .outputs = {ToRegistry(In("p20-elsewhere"))}}).ok());
  EXPECT_EQ(LayersOf("p20-elsewhere"), layers);
  for (size_t i = 0; i < layers.size(); ++i) {
    EXPECT_THAT(registry().Requests(
                    {"POST /v2/p20-elsewhere/blobs/uploads/?mount=" + layers[i], " 201 "}, 1),
                SizeIs(1));
    EXPECT_THAT(fetched(layers[i], 0), IsEmpty()) << "a push moves no bytes";
  }
  EXPECT_THAT(registry().Requests({"PUT /v2/p20-elsewhere/blobs/uploads/", layers[0]}), IsEmpty());

  std::vector<std::thread> builds;
  SeenProgress seen[3];
  for (int i = 0; i < 3; ++i)
    builds.emplace_back([&, i] {
      const auto done = Solve(
          {.state = image.Run(Step(absl::StrCat("read ", i), absl::StrCat("cat /more # ", i)))},
          &seen[i]);
      EXPECT_TRUE(done.ok()) << done.status();
    });
  for (std::thread& build : builds) build.join();
  for (size_t i = 0; i < layers.size(); ++i)
    EXPECT_THAT(fetched(layers[i], 1), SizeIs(1)) << layers[i];
  // Whoever pulled the image shows what comes, whichever step needed it.
  std::map<std::string, int64_t> shown;
  for (const SeenProgress& each : seen)
    for (const auto& [name, step] : each.steps())
      if (absl::StrContains(name, "docker-image://"))
        shown.insert(step.transferred.begin(), step.transferred.end());
  const Json manifest = Manifest("p20", "latest");
  for (const Json& layer : manifest.at("layers")) {
    const std::string digest = layer.at("digest");
    EXPECT_EQ(shown[digest], layer.at("size").get<int64_t>());
    EXPECT_THAT(shown, testing::Contains(testing::Key("extracting " + digest)));
  }
}

TEST_F(RegistryTest, Llb6_56_StepsOnEqualLayersAreFoundAgain) {
  const std::string tag = In("llb56") + ":moving";
  ASSERT_TRUE(Solve({.state = BaseImage().File(llb::Mkfile("/v", 0644, "1")),
                     .outputs = {ToRegistry(In("llb56") + ":v1"), ToRegistry(tag)}})
                  .ok());
  const auto digest = [](const std::string& name) {
    return Output(
        {"skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", "docker://" + name});
  };
  const auto random = [&](const std::string& name) {
    return Content({.state = llb::Image(name).AddEnv("PATH", "/bin").Run(Step("random", kRandom))},
                   "random");
  };
  const std::string first = random(tag);
  EXPECT_EQ(random(In("llb56") + ":v1"), first) << "another tag of one image";

  // Another config on the same layers.
  const std::string layout = dir_.path() + "/layout";
  Output({"skopeo", "copy", "-q", "--src-tls-verify=false", "docker://" + tag,
          "oci:" + layout + ":v"});
  Output({"umoci", "config", "--image", layout + ":v", "--config.label", "a=b"});
  const std::string old = digest(tag);
  Output({"skopeo", "copy", "-q", "--dest-tls-verify=false", "oci:" + layout + ":v",
          "docker://" + tag});
  ASSERT_NE(digest(tag), old);
  EXPECT_EQ(random(tag), first) << "another config";

  ASSERT_TRUE(
      Solve({.state = BaseImage().File(llb::Mkfile("/v", 0644, "2")), .outputs = {ToRegistry(tag)}})
          .ok());
  EXPECT_NE(random(tag), first) << "other layers";
}

// A registry with TLS of its own authority and one user; what a client may is in its docker config.
class ClosedRegistryTest : public ImageBuildTest {
 protected:
  void SetUp() override {
    const absl::Status started = closed_.Start();
    ASSERT_TRUE(started.ok()) << started;
    config_ = absl::StrCat("[registry.\"", closed_.host(), "\"]\nhttp = false\nca = [\"",
                           closed_.ca_file(), "\"]\n");
    ImageBuildTest::SetUp();
    ::setenv("DOCKER_CONFIG", dir_.path().c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("DOCKER_CONFIG");
    ImageBuildTest::TearDown();
  }
  // `auth` is base64 of "user:password".
  void LogIn(const std::string& auth) {
    dir_.Write("config.json",
               absl::StrCat(R"({"auths":{")", closed_.host(), R"(":{"auth":")", auth, R"("}}})"));
  }

  RegistryProcess closed_{{.tls = true, .user = "someone", .password = "secret"}};
};

TEST_F(ClosedRegistryTest, WhoLoggedInPushesPullsAndCaches) {
  LogIn("c29tZW9uZTpzZWNyZXQ=");
  const std::string name = closed_.host() + "/team/app", cache = closed_.host() + "/team/cache";
  const llb::State made = BaseImage().Run(Step("random", kRandom)).Root();
  const auto pushed = Solve({.state = made,
                             .outputs = {ToRegistry(name)},
                             .to = {RegistryCache(cache, {{"mode", "max"}})}});
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  Prune();
  SeenProgress seen;
  const std::string cached =
      Content({.state = made, .from = {RegistryCache(cache)}}, "random", &seen);
  EXPECT_EQ(cached.size(), 16u);
  EXPECT_FALSE(Ran(seen, "random"));
  Prune();
  EXPECT_EQ(Content({.state = llb::Image(name)}, "random"), cached);
  // The layers are fetched by somebody else's build, later, on behalf of who resolved the image.
  Prune();
  const llb::State image = llb::Image(name).AddEnv("PATH", "/bin");
  EXPECT_TRUE(Solve({.state = image.Run(Step("use", "cat /random > /dev/null"))}).ok());
}

TEST_F(ClosedRegistryTest, WhoDidNotIsRefusedByName) {
  const std::string name = closed_.host() + "/team/app";
  const llb::State made = llb::State().File(llb::Mkfile("/f", 0644, "x"));
  for (const char* auth : {"", "c29tZW9uZTp3cm9uZw=="}) {
    if (*auth != 0) LogIn(auth);
    const auto pushed = Solve({.state = made, .outputs = {ToRegistry(name)}});
    EXPECT_EQ(pushed.status().code(), absl::StatusCode::kUnauthenticated) << pushed.status();
    EXPECT_THAT(std::string(pushed.status().message()),
                AllOf(HasSubstr(name), HasSubstr("401 Unauthorized")));
    const auto pulled = Solve({.state = llb::Image(name)});
    EXPECT_EQ(pulled.status().code(), absl::StatusCode::kUnauthenticated) << pulled.status();
    EXPECT_THAT(std::string(pulled.status().message()), HasSubstr(name));
  }
}

TEST_F(ClosedRegistryTest, AnUnknownAuthorityIsRefused) {
  LogIn("c29tZW9uZTpzZWNyZXQ=");
  config_ = absl::StrCat("[registry.\"", closed_.host(), "\"]\nhttp = false\n");
  auto other = KilndProcess::Start({.config = config_});
  ASSERT_TRUE(other.ok()) << other.status();
  std::swap(daemon_, *other);
  const auto pulled = Solve({.state = llb::Image(closed_.host() + "/team/app")});
  EXPECT_THAT(std::string(pulled.status().message()),
              AllOf(HasSubstr(closed_.host()), HasSubstr("certificate")));
}

TEST_F(RegistryTest, OfSeveralClientCertificatesTheRightOneIsShown) {
  RegistryProcess stranger({.tls = true}), strict({.tls = true, .client_certificates = true});
  ASSERT_TRUE(stranger.Start().ok());
  ASSERT_TRUE(strict.Start().ok());
  std::string config =
      absl::StrCat("[registry.\"", strict.host(), "\"]\nca = [\"", strict.ca_file(), "\"]\n");
  for (const RegistryProcess* each : {&stranger, &strict})
    absl::StrAppend(&config, "[[registry.\"", strict.host(), "\".keypair]]\nkey = \"",
                    each->key_file(), "\"\ncert = \"", each->cert_file(), "\"\n");
  auto daemon = KilndProcess::Start({.config = config});
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  std::swap(daemon_, *daemon);
  const auto done =
      Solve({.state = ThreeLayers(), .outputs = {ToRegistry(strict.host() + "/app")}});
  EXPECT_TRUE(done.ok()) << done.status();
}

TEST_F(RegistryTest, AttestationsAreListedAsReferrers) {
  const auto done = Solve({.state = ThreeLayers(),
                           .outputs = {ToRegistry(In("referrers"), {{"oci-artifact", "true"}})},
                           .frontend_attrs = {{"attest:provenance", "mode=max"}}});
  ASSERT_TRUE(done.ok()) << done.status();
  const Json index = Manifest("referrers", "latest");
  const std::string image = index.at("manifests")[0].at("digest");
  const Json list = Manifest("referrers", "sha256-" + image.substr(7));
  ASSERT_EQ(list.at("manifests").size(), 1u);
  EXPECT_EQ(list.at("manifests")[0].at("digest"), index.at("manifests")[1].at("digest"));
}

}  // namespace
}  // namespace kiln::integration
