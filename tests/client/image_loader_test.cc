#include "client/cli/image_loader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/image_archive.h"
#include "store/base/fd.h"
#include "tests/client/fake_engine.h"
#include "tests/store/temp_dir.h"

namespace kiln::client {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
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

// An image whose layers are a file each, of that name and 600 kB; as docker archive and OCI layout.
std::string Archive(const std::vector<std::string>& names) {
  std::vector<std::pair<std::string, std::string>> files;
  nlohmann::json config = {
      {"architecture", "amd64"},           {"os", "linux"},
      {"created", "2026-01-01T00:00:00Z"}, {"config", {{"Cmd", {"/x"}}}},
      {"rootfs", {{"type", "layers"}}},    {"history", nlohmann::json::array()}};
  nlohmann::json manifest = {{"RepoTags", {"kiln.test/loaded:1"}}};
  nlohmann::json oci = {{"schemaVersion", 2}};
  for (const std::string& name : names) {
    const std::string layer = Tar({{name, std::string(600'000, name[0])}});
    const Digest digest = Digest::Of(layer);
    files.emplace_back("blobs/sha256/" + digest.hex(), layer);
    config["rootfs"]["diff_ids"].push_back(digest.ToString());
    config["history"].push_back(
        {{"created", "2026-01-01T00:00:00Z"}, {"created_by", "COPY " + name}});
    manifest["Layers"].push_back(files.back().first);
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

  // Loads an archive into what listens at socket_.
  static absl::Status Load(const std::string& archive) {
    auto loader = ImageLoader::Find();
    if (!loader.ok()) return loader.status();
    const ExportRequest wanted = (*loader)->Request("a:1,b");
    EXPECT_EQ(wanted.type, "docker");
    EXPECT_EQ(wanted.attrs.at("name"), "a:1,b");
    std::ofstream(wanted.target.path) << archive;
    const absl::Status status = (*loader)->Load(CancelToken());
    loader->reset();
    EXPECT_NE(access(wanted.target.path.c_str(), F_OK), 0);
    return status;
  }

  store::TempDir dir_;
  const std::string socket_ = dir_.path() + "/engine.sock";
};

TEST_F(ImageLoaderTest, PostsTheArchive) {
  std::vector<FakeEngine::Request> requests;
  const FakeEngine engine(socket_, [&](const FakeEngine::Request& request) {
    requests.push_back(request);
    return FakeEngine::Answer(200, "{\"stream\":\"loaded a:1\"}");
  });
  EXPECT_EQ(Load("archive bytes"), absl::OkStatus());
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].line, "POST /images/load?quiet=1");
  EXPECT_THAT(requests[0].head, HasSubstr("application/x-tar"));
  EXPECT_EQ(requests[0].body, "archive bytes");
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

// One that says it has layers and lost them since.
TEST_F(ImageLoaderTest, WhatIsLackingAfterAllIsSent) {
  const std::string archive = Archive({"one", "two"});
  std::ofstream(dir_.path() + "/archive") << archive;
  const Fd file(open((dir_.path() + "/archive").c_str(), O_RDONLY | O_CLOEXEC));
  const auto read = ImageArchive::Read(file.get());
  ASSERT_TRUE(read.ok()) << read.status();
  const std::string id = "sha256:" + std::string(64, 'a');
  const nlohmann::json image = {
      {"RootFS", {{"Layers", {read->diff_ids()[0].ToString(), "sha256:" + std::string(64, 'b')}}}}};
  std::vector<size_t> sent;
  const FakeEngine engine(socket_, [&](const FakeEngine::Request& request) {
    if (request.line == "GET /info") return FakeEngine::Answer(200, "{\"Driver\":\"overlay2\"}");
    if (request.line == "GET /images/json")
      return FakeEngine::Answer(200, nlohmann::json::array({{{"Id", id}, {"Created", 1}}}).dump());
    if (request.line == "GET /images/" + id + "/json") return FakeEngine::Answer(200, image.dump());
    sent.push_back(request.body.size());
    if (request.body != archive) return FakeEngine::Answer(200, "{\"error\":\"no such file\"}");
    return FakeEngine::Answer(200, "{}");
  });
  EXPECT_EQ(Load(archive), absl::OkStatus());
  const size_t entry = 512 + Tar({{"one", std::string(600'000, 'o')}}).size();
  EXPECT_THAT(sent, ElementsAre(archive.size() - entry, archive.size()));
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
  EXPECT_EQ(Load(Archive({"one", "two", "three"})), absl::OkStatus());
  EXPECT_EQ(Load(Archive({"one", "two", "other"})), absl::OkStatus());
  // Under another layer it is not the same.
  EXPECT_EQ(Load(Archive({"two", "one"})), absl::OkStatus());
  const absl::Status refused = Load("no archive at all");
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), StartsWith("load into engine ("));
}

INSTANTIATE_TEST_SUITE_P(Engines, RecordedEngineTest, testing::Values("docker", "podman"),
                         [](const auto& test) { return std::string(test.param); });

class ImageArchiveTest : public testing::Test {
 protected:
  absl::StatusOr<ImageArchive> Read(const std::string& bytes) {
    const std::string path = dir_.path() + "/archive";
    std::ofstream(path) << bytes;
    return ImageArchive::Read(Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC)).get());
  }
  store::TempDir dir_;
};

TEST_F(ImageArchiveTest, LowLayersThatAreHighOnesTooStay) {
  const auto archive = Read(Archive({"one", "two", "one"}));
  ASSERT_TRUE(archive.ok()) << archive.status();
  EXPECT_THAT(archive->LowestLayers(0), IsEmpty());
  EXPECT_THAT(archive->LowestLayers(2), ElementsAre(archive->layers()[1]));
  EXPECT_EQ(archive->LowestLayers(9).size(), 2u);
}

TEST_F(ImageArchiveTest, OddOnesAreRefused) {
  const std::string good = Archive({"one"});
  std::string pax = good, size = good, late = good;
  pax[156] = 'x';
  size[124] = '\x80';
  late.resize(late.size() - 600);
  for (const std::string& bad :
       {std::string(), std::string("x"), pax, size, late, Tar({{"a", "b"}}),
        Tar({{"manifest.json", "[{},{}]"}}), Tar({{"manifest.json", "[{\"Config\":1}]"}}),
        Tar({{"manifest.json", "[{\"Config\":\"c\"}]"}, {"c", "{\"rootfs\":[]}"}}),
        Tar({{"manifest.json", "[{\"Config\":\"c\",\"Layers\":[\"l\"]}]"},
             {"c", "{\"rootfs\":{\"diff_ids\":[\"no\"]}}"}})})
    EXPECT_FALSE(Read(bad).ok());
}

}  // namespace
}  // namespace kiln::client
