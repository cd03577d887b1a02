#include "client/cli/image_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/digest.h"
#include "tests/client/fake_engine.h"
#include "tests/store/temp_dir.h"

namespace kiln::client {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string TarEntry(const std::string& name, const std::string& bytes) {
  std::string header(512, '\0');
  name.copy(header.data(), 100);
  absl::StrAppend(&header, bytes, std::string((512 - bytes.size() % 512) % 512, '\0'));
  const auto put = [&](size_t at, const std::string& text) { text.copy(&header[at], text.size()); };
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(124, absl::StrFormat("%011o", bytes.size()));
  put(136, "00000000000");
  put(148, "        ");
  put(156, "0");
  put(257, std::string("ustar\00000", 8));
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(header[i]);
  put(148, absl::StrFormat("%06o", sum) + std::string("\0 ", 2));
  return header;
}

std::string Tar(const std::vector<std::pair<std::string, std::string>>& files) {
  std::string tar;
  for (const auto& [name, bytes] : files) tar += TarEntry(name, bytes);
  return tar + std::string(1024, '\0');
}

nlohmann::json Descriptor(const std::string& type, const std::string& bytes) {
  return {{"mediaType", type}, {"digest", Digest::Of(bytes).ToString()}, {"size", bytes.size()}};
}

Digest DiffIdOf(const std::string& name) {
  return Digest::Of(Tar({{name, std::string(600'000, name[0])}}));
}
Digest ChainOf(const Digest& below, const std::string& name) {
  return Digest::Of(absl::StrCat(below.ToString(), " ", DiffIdOf(name).ToString()));
}

// An image whose layers are a file each, of that name and 600 kB; as docker archive and OCI layout.
// Like kilnd's it lacks the layers whose chain ids `known` has.
std::string Archive(const std::vector<std::string>& names, const std::string& known = "") {
  std::vector<std::pair<std::string, std::string>> files;
  nlohmann::json config = {
      {"architecture", "amd64"},           {"os", "linux"},
      {"created", "2026-01-01T00:00:00Z"}, {"config", {{"Cmd", {"/x"}}}},
      {"rootfs", {{"type", "layers"}}},    {"history", nlohmann::json::array()}};
  nlohmann::json manifest = {{"RepoTags", {"kiln.test/loaded:1"}}};
  nlohmann::json oci = {{"schemaVersion", 2}};
  std::optional<Digest> chain;
  for (const std::string& name : names) {
    const std::string layer = Tar({{name, std::string(600'000, name[0])}});
    const Digest digest = Digest::Of(layer);
    const std::string path = "blobs/sha256/" + digest.hex();
    chain = chain ? ChainOf(*chain, name) : digest;
    if (!absl::StrContains(known, chain->ToString())) files.emplace_back(path, layer);
    config["rootfs"]["diff_ids"].push_back(digest.ToString());
    config["history"].push_back(
        {{"created", "2026-01-01T00:00:00Z"}, {"created_by", "COPY " + name}});
    manifest["Layers"].push_back(path);
    oci["layers"].push_back(Descriptor("application/vnd.oci.image.layer.v1.tar", layer));
  }
  const std::string text = config.dump();
  files.emplace_back("blobs/sha256/" + Digest::Of(text).hex(), text);
  manifest["Config"] = files.back().first;
  files.emplace_back("manifest.json", nlohmann::json::array({manifest}).dump());
  oci["config"] = Descriptor("application/vnd.oci.image.config.v1+json", text);
  const std::string root = oci.dump();
  files.emplace_back("blobs/sha256/" + Digest::Of(root).hex(), root);
  nlohmann::json entry = Descriptor("application/vnd.oci.image.manifest.v1+json", root);
  entry["annotations"] = {{"io.containerd.image.name", "kiln.test/loaded:1"},
                          {"org.opencontainers.image.ref.name", "1"}};
  files.emplace_back(
      "index.json",
      nlohmann::json{{"schemaVersion", 2}, {"manifests", nlohmann::json::array({entry})}}.dump());
  files.emplace_back("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
  return Tar(files);
}

class ImageLoaderTest : public testing::Test {
 protected:
  void SetUp() override { setenv("DOCKER_HOST", ("unix://" + socket_).c_str(), 1); }
  void TearDown() override { unsetenv("DOCKER_HOST"); }

  // Loads into what listens at socket_ what `make` gives for the known layers that are asked for;
  // once more with none when that is wanted.
  static absl::Status Load(const std::function<std::string(const std::string& known)>& make) {
    auto loader = ImageLoader::Find();
    if (!loader.ok()) return loader.status();
    std::vector<ExportRequest> wanted = {(*loader)->Request({"a:1", "b"}, CancelToken())};
    EXPECT_EQ(wanted[0].type, "docker");
    EXPECT_EQ(wanted[0].attrs.at("name"), "a:1,b");
    const std::string path = wanted[0].target.path;
    const auto build = [&] {
      const auto known = wanted[0].attrs.find("known-layers");
      std::ofstream(path) << make(known == wanted[0].attrs.end() ? "" : known->second);
      return absl::OkStatus();
    };
    EXPECT_EQ(build(), absl::OkStatus());
    const absl::Status status = (*loader)->Load(CancelToken(), [&] {
      ImageLoader::SendWhole(&wanted);
      return build();
    });
    loader->reset();
    EXPECT_NE(access(path.c_str(), F_OK), 0);
    return status;
  }
  static absl::Status Load(const std::string& archive) {
    return Load([&](const std::string&) { return archive; });
  }

  store::TempDir dir_;
  const std::string socket_ = dir_.path() + "/engine.sock";
};

TEST_F(ImageLoaderTest, PostsTheArchive) {
  std::vector<FakeEngine::Request> requests;
  const FakeEngine engine(socket_, [&](const FakeEngine::Request& request) {
    requests.push_back(request);
    return FakeEngine::Answer(200, request.line == "GET /images/json" ? "[]" : "{}");
  });
  EXPECT_EQ(Load("archive bytes"), absl::OkStatus());
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].line, "GET /info");
  EXPECT_EQ(requests[1].line, "GET /images/json");
  EXPECT_EQ(requests[2].line, "POST /images/load?quiet=1");
  EXPECT_THAT(requests[2].head, HasSubstr("application/x-tar"));
  EXPECT_EQ(requests[2].body, "archive bytes");
}

TEST_F(ImageLoaderTest, EnginesComplainInTwoWays) {
  std::string answer = FakeEngine::Answer(500, "{\"message\":\"disk is full\"}");
  const FakeEngine engine(socket_, [&](const FakeEngine::Request&) { return answer; });
  EXPECT_THAT(Load("archive").message(), HasSubstr("disk is full"));
  // With a good status, too: it was sent before anything went wrong.
  answer = FakeEngine::Answer(200, "{\"error\":\"bad archive\"}");
  EXPECT_THAT(Load("archive").message(), HasSubstr("bad archive"));
}

TEST_F(ImageLoaderTest, AnEngineThatDiesIsSaidToHaveGone) {
  const FakeEngine engine(socket_, [](const FakeEngine::Request&) { return ""; });
  for (const std::string& archive : {std::string("archive"), Archive({"one", "two"})}) {
    const absl::Status status = Load(archive);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("load into engine (" + socket_), HasSubstr("went away")));
  }
}

// An image of these layers, as engines tell of it.
std::string ImageJson(const std::vector<std::string>& layers) {
  nlohmann::json image;
  for (const std::string& layer : layers)
    image["RootFS"]["Layers"].push_back(DiffIdOf(layer).ToString());
  return image.dump();
}

// One that says it has layers and lost them since.
TEST_F(ImageLoaderTest, WhatIsLackingAfterAllIsSent) {
  const std::string archive = Archive({"one", "two"});
  const std::string id = "sha256:" + std::string(64, 'a');
  std::vector<size_t> sent;
  const FakeEngine engine(socket_, [&](const FakeEngine::Request& request) {
    if (request.line == "GET /info") return FakeEngine::Answer(200, "{\"Driver\":\"overlay2\"}");
    if (request.line == "GET /images/json")
      return FakeEngine::Answer(200, nlohmann::json::array({{{"Id", id}, {"Created", 1}}}).dump());
    if (request.line == "GET /images/" + id + "/json")
      return FakeEngine::Answer(200, ImageJson({"one", "other"}));
    sent.push_back(request.body.size());
    if (request.body != archive) return FakeEngine::Answer(200, "{\"error\":\"no such file\"}");
    return FakeEngine::Answer(200, "{}");
  });
  EXPECT_EQ(Load([&](const std::string& known) {
              return Archive({"one", "two"}, known);
            }),
            absl::OkStatus());
  const size_t entry = 512 + Tar({{"one", std::string(600'000, 'o')}}).size();
  EXPECT_THAT(sent, ElementsAre(archive.size() - entry, archive.size()));
}

TEST_F(ImageLoaderTest, ImagesOfTheSameNameAreAskedForFirst) {
  nlohmann::json images = nlohmann::json::array();
  for (int i = 10; i < 60; ++i)
    images.push_back({{"Id", "sha256:" + std::string(62, 'c') + std::to_string(i)},
                      {"Created", i},
                      {"RepoTags", i == 10 ? nlohmann::json({"x:1", "b:old"}) : nlohmann::json()}});
  std::vector<std::string> asked;
  const FakeEngine engine(socket_, [&](const FakeEngine::Request& request) {
    if (request.line == "GET /info") return FakeEngine::Answer(200, "{\"Driver\":\"overlay2\"}");
    if (request.line == "GET /images/json") return FakeEngine::Answer(200, images.dump());
    if (absl::StartsWith(request.line, "GET ")) {
      asked.push_back(request.line.substr(request.line.size() - 7, 2));
      return FakeEngine::Answer(200, ImageJson({"one", "two"}));
    }
    return FakeEngine::Answer(200, "{}");
  });
  std::string known;
  EXPECT_EQ(Load([&](const std::string& layers) { return known = layers; }), absl::OkStatus());
  ASSERT_EQ(asked.size(), 32u);
  EXPECT_EQ(asked[0], "10") << "an older image of \"b\"";
  EXPECT_EQ(asked[1], "59");
  EXPECT_EQ(asked[31], "29");
  const std::string one = DiffIdOf("one").ToString();
  const std::string two = ChainOf(DiffIdOf("one"), "two").ToString();
  EXPECT_EQ(known, one < two ? one + "," + two : two + "," + one);
}

TEST_F(ImageLoaderTest, AnEngineOverContainerdGetsAll) {
  const std::string archive = Archive({"one", "two"});
  std::vector<std::string> seen;
  const FakeEngine engine(socket_, [&](const FakeEngine::Request& request) {
    seen.push_back(request.line);
    if (request.line == "GET /info")
      return FakeEngine::Answer(
          200, R"({"DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]})");
    EXPECT_EQ(request.body.size(), archive.size());
    return FakeEngine::Answer(200, "{}");
  });
  EXPECT_EQ(Load(archive), absl::OkStatus());
  EXPECT_THAT(seen, ElementsAre("GET /info", "POST /images/load?quiet=1"));
}

TEST_F(ImageLoaderTest, SaysWhyNoneCanBeUsed) {
  const auto none = ImageLoader::Find();
  EXPECT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(none.status().message(), HasSubstr(socket_ + ": not there"));
  std::ofstream(socket_) << "a file";
  EXPECT_THAT(ImageLoader::Find().status().message(), HasSubstr(socket_ + ": nobody listens"));
  setenv("DOCKER_HOST", "tcp://elsewhere:2375", 1);
  EXPECT_THAT(ImageLoader::Find().status().message(), HasSubstr("tcp://elsewhere:2375"));
}

// Docker 20.10.24 and Podman 4.3.1, which had none of the layers before.
class RecordedEngineTest : public ImageLoaderTest,
                           public testing::WithParamInterface<const char*> {};

TEST_P(RecordedEngineTest, LayersThatItHasAreNotSent) {
  const RecordedEngine engine(absl::StrCat(KILN_TESTDATA, "/engine/", GetParam(), ".json"),
                              socket_);
  size_t bytes = 0;
  const auto load = [&](const std::vector<std::string>& layers) {
    return Load([&](const std::string& known) {
      const std::string archive = Archive(layers, known);
      bytes = archive.size();
      return archive;
    });
  };
  EXPECT_EQ(load({"one", "two", "three"}), absl::OkStatus());
  EXPECT_GT(bytes, 1'800'000u);
  EXPECT_EQ(load({"one", "two", "other"}), absl::OkStatus());
  EXPECT_LT(bytes, 700'000u);
  // Under another layer it is not the same.
  EXPECT_EQ(load({"two", "one"}), absl::OkStatus());
  EXPECT_GT(bytes, 1'200'000u);
  const absl::Status refused = Load("no archive at all");
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), StartsWith("load into engine ("));
}

INSTANTIATE_TEST_SUITE_P(Engines, RecordedEngineTest, testing::Values("docker", "podman"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace kiln::client
