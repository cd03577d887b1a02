#include "daemon/exporter/archive_exporter.h"

#include <gmock/gmock.h>

#include "tests/daemon/exporter/image_fixture.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST_F(ImageExporterTest, E1OciLayoutOfAScratchBuild) {
  layers_->Add("tree", "one");
  layers_->Add("tree", "two");
  const auto response = Export("oci", {{"name", "app"}}, Single("tree"));
  ASSERT_TRUE(response.ok()) << response.status();
  std::vector<std::string> order;
  const auto files = ReadTar(client_.received_file, &order);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(files.at("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}");
  EXPECT_FALSE(files.contains("manifest.json"));
  const Json index = Json::parse(files.at("index.json"));
  EXPECT_EQ(index.at("mediaType"), kOciIndex);
  ASSERT_THAT(index.at("manifests"), SizeIs(1));
  const Json& entry = index.at("manifests")[0];
  EXPECT_EQ(entry.at("annotations").at("io.containerd.image.name"), "docker.io/library/app:latest");
  EXPECT_EQ(entry.at("annotations").at("org.opencontainers.image.ref.name"), "latest");
  EXPECT_TRUE(entry.at("annotations").contains("org.opencontainers.image.created"));
  EXPECT_EQ(response->at("image.name"), "docker.io/library/app:latest");
  EXPECT_EQ(response->at("containerimage.digest"), entry.at("digest"));
  const auto blob = [&files](const Json& descriptor) {
    const std::string text = descriptor.at("digest").get<std::string>();
    const std::string bytes = files.at("blobs/sha256/" + text.substr(7));
    EXPECT_EQ(Digest::Of(bytes).ToString(), text);
    EXPECT_EQ(bytes.size(), descriptor.at("size").get<size_t>());
    return bytes;
  };
  const Json manifest = Json::parse(blob(entry));
  EXPECT_EQ(response->at("containerimage.config.digest"), manifest.at("config").at("digest"));
  const Json config = Json::parse(blob(manifest.at("config")));
  ASSERT_THAT(manifest.at("layers"), SizeIs(2));
  for (const Json& layer : manifest.at("layers")) {
    blob(layer);
    EXPECT_FALSE(layer.contains("annotations"));
  }
  EXPECT_EQ(config.at("rootfs").at("diff_ids"),
            Json::array({FakeLayerStore::DiffIdOf("one").ToString(),
                         FakeLayerStore::DiffIdOf("two").ToString()}));
  EXPECT_EQ(config.at("history")[1].at("created_by"), "made two");
  EXPECT_EQ(files.size(), 2u + 4u + 2u);
}

TEST_F(ImageExporterTest, E2DockerArchive) {
  layers_->Add("tree", "one");
  layers_->Add("tree", "two");
  for (const bool oci : {true, false}) {
    client_.received_file.clear();
    const auto response =
        Export("docker", {{"name", "app:v1,localhost:5000/b"}, {"oci-mediatypes", oci ? "1" : "0"}},
               Single("tree"));
    ASSERT_TRUE(response.ok()) << response.status();
    const auto files = ReadTar(client_.received_file);
    const Json docker = Json::parse(files.at("manifest.json"));
    ASSERT_THAT(docker, SizeIs(1));
    EXPECT_EQ(docker[0].at("RepoTags"), Json::array({"app:v1", "localhost:5000/b:latest"}));
    ASSERT_THAT(docker[0].at("Layers"), SizeIs(2));
    for (const Json& layer : docker[0].at("Layers"))
      EXPECT_TRUE(files.contains(layer.get<std::string>()));
    EXPECT_TRUE(files.contains(docker[0].at("Config").get<std::string>()));
    const Json manifest = BlobJson(response->at("containerimage.digest"));
    EXPECT_EQ(manifest.at("mediaType"), oci ? kOciManifest : kDockerManifest);
    EXPECT_EQ(manifest.at("layers")[0].at("mediaType"),
              oci ? store::kOciLayerGzip : "application/vnd.docker.image.rootfs.diff.tar.gzip");
    EXPECT_THAT(Json::parse(files.at("index.json")).at("manifests"), SizeIs(2));
  }
}

TEST_F(ImageExporterTest, E4AClientMayDeclineTheStream) {
  layers_->Add("tree", "one");
  client_.file_send_status = absl::AlreadyExistsError("target already exists");
  const auto response = Export("oci", {}, Single("tree"));
  ASSERT_TRUE(response.ok()) << response.status();
  const Headers headers = client_.headers();
  for (const char* key : {"containerimage.digest", "containerimage.config.digest"})
    EXPECT_EQ(headers.find(std::string("exporter-md-") + key)->second, response->at(key));
  client_.file_send_status = absl::PermissionDeniedError("no");
  EXPECT_THAT(Error("oci", {}, Single("tree")), HasSubstr("no"));
}

TEST_F(ImageExporterTest, E7DockerHasNoManifestLists) {
  EXPECT_EQ(Error("docker", {}, Map({"linux/amd64", "linux/arm64"})),
            "docker exporter does not currently support exporting manifest lists");
}

TEST_F(ImageExporterTest, DockerDropsAttestations) {
  ExportSource source = Single("tree");
  Attestation attestation;
  attestation.predicate_type = "t";
  attestation.content = "{}";
  source.attestations["linux/amd64"] = {attestation};
  ASSERT_TRUE(Export("docker", {}, source).ok());
  EXPECT_TRUE(ReadTar(client_.received_file).contains("manifest.json"));
}

TEST_F(ImageExporterTest, LazyLayersAreFetchedForAnArchive) {
  layers_->Add("tree", "base", "docker.io/library/base");
  ASSERT_TRUE(Export("oci", {}, Single("tree")).ok());
  EXPECT_EQ(layers_->fetches, 1);
  EXPECT_TRUE(ReadTar(client_.received_file)
                  .contains("blobs/sha256/" + Digest::Of(FakeLayerStore::BytesOf("base")).hex()));
}

TEST_F(ImageExporterTest, E18EpochIsTheTimeOfEverything) {
  layers_->Add("tree", "one");
  ExportSource source = Single("tree");
  const auto response = Export("oci", {{"source-date-epoch", "1600000000"}}, source);
  ASSERT_TRUE(response.ok()) << response.status();
  const std::string want = "2020-09-13T12:26:40Z";
  const Json config = BlobJson(response->at("containerimage.config.digest"));
  EXPECT_EQ(config.at("created"), want);
  EXPECT_EQ(config.at("history")[0].at("created"), want);
  const auto files = ReadTar(client_.received_file);
  EXPECT_EQ(Json::parse(files.at("index.json"))
                .at("manifests")[0]
                .at("annotations")
                .at("org.opencontainers.image.created"),
            want);
}

TEST_F(ImageExporterTest, LayersThatTheReceiverHasStayOutOfADockerArchive) {
  for (const char* layer : {"one", "two", "three", "one"}) layers_->Add("tree", layer);
  const auto diff_id = [](const char* layer) { return FakeLayerStore::DiffIdOf(layer); };
  const auto chain = [&](const Digest& below, const char* layer) {
    return Digest::Of(absl::StrCat(below.ToString(), " ", diff_id(layer).ToString()));
  };
  // Which of the four layers are in the archive; the manifests name all.
  const auto sent = [&](const Attrs& attrs) {
    client_.received_file.clear();
    const auto response = Export("docker", attrs, Single("tree"));
    EXPECT_TRUE(response.ok()) << response.status();
    const auto files = ReadTar(client_.received_file);
    std::string out;
    const Json docker = Json::parse(files.at("manifest.json"));
    for (const Json& layer : docker[0].at("Layers"))
      out += files.contains(layer.get<std::string>()) ? '+' : '-';
    EXPECT_EQ(BlobJson(response->at("containerimage.digest")).at("layers").size(), 4u);
    return out;
  };
  const Digest second = chain(diff_id("one"), "two");
  EXPECT_EQ(sent({}), "++++");
  EXPECT_EQ(sent({{"known-layers", second.ToString()}}), "+-++");
  EXPECT_EQ(
      sent({{"known-layers", absl::StrCat(diff_id("one").ToString(), ",", second.ToString())}}),
      "+-++")
      << "the first lies on top once more, where it is not known";
  EXPECT_EQ(sent({{"known-layers", diff_id("two").ToString()}}), "++++") << "upon nothing";
  const Json manifest = BlobJson(Export("docker", {}, Single("tree"))->at("containerimage.digest"));
  EXPECT_EQ(sent({{"known-layers", manifest.at("layers")[0].at("digest")}}), "-++-") << "the blob";
  EXPECT_THAT(Error("docker", {{"known-layers", "no"}}, Single("tree")),
              HasSubstr("invalid known-layers"));
}

TEST_F(ImageExporterTest, E20EmptyEpochAttributeMeansNone) {
  layers_->Add("tree", "one");
  ExportSource source = Single("tree");
  source.metadata["source.date.epoch"] = "1000";
  const auto with = Export("oci", {}, source);
  EXPECT_EQ(BlobJson(with->at("containerimage.config.digest")).at("created"),
            "1970-01-01T00:16:40Z");
  const auto without = Export("oci", {{"source-date-epoch", ""}}, source);
  EXPECT_EQ(BlobJson(without->at("containerimage.config.digest")).at("created"),
            "2023-11-14T22:13:20Z");
}

TEST_F(ImageExporterTest, ClientWithoutContentStoreIsToldSo) {
  layers_->Add("tree", "one");
  auto session = std::make_shared<FakeSession>("s1", client_.Channel());
  session->unsupported.insert("/containerd.services.content.v1.content/write");
  sessions_.sessions["s1"] = session;
  EXPECT_THAT(Error("oci", {{"tar", "false"}}, Single("tree")), HasSubstr("no content store"));
}

struct RefusedOption {
  Attrs attrs;
  const char* message;
};

TEST_F(ImageExporterTest, OptionsAreCheckedBeforeTheBuild) {
  for (const RefusedOption& test : std::initializer_list<RefusedOption>{
           {{{"tar", "x"}}, "non-bool value specified for tar: \"x\""},
           {{{"oci-mediatypes", "maybe"}},
            "non-bool value specified for oci-mediatypes: \"maybe\""},
           {{{"rewrite-timestamp", ""}}, "non-bool value specified for rewrite-timestamp: \"\""},
           {{{"compression", "lzma"}}, "unsupported compression type lzma"},
           {{{"compression-level", "high"}}, "non-int value high specified for compression-level"},
           {{{"source-date-epoch", "now"}},
            "invalid source-date-epoch: \"now\" is not a number of seconds"},
           {{{"annotation-layer.a", "b"}}, "unrecognized annotation type layer"}})
    EXPECT_EQ(Make("oci", test.attrs).status().message(), test.message);
  for (const RefusedOption& test : std::initializer_list<RefusedOption>{
           {{{"compression", "estargz"}, {"oci-mediatypes", "false"}},
            "exporter option \"compression=estargz\" conflicts with \"oci-mediatypes=false\""},
           {{{"oci-artifact", "true"}, {"oci-mediatypes", "false"}},
            "exporter option \"oci-artifact=true\" conflicts with \"oci-mediatypes=false\""},
           {{{"annotation-index.a", "b"}, {"oci-mediatypes", "false"}},
            "cannot export annotations with \"oci-mediatypes=false\""},
           {{{"compression-level", "10"}}, "compression-level 10 is not between -1 and 9"},
           {{{"name", "UPPER"}}, "failed to parse UPPER"}})
    EXPECT_THAT(Error("oci", test.attrs, Single("")), HasSubstr(test.message));
}

TEST_F(ImageExporterTest, CompressionReachesTheLayers) {
  ASSERT_TRUE(
      Export("oci",
             {{"compression", "zstd"}, {"compression-level", "3"}, {"force-compression", ""}},
             Single("tree"))
          .ok());
  ASSERT_THAT(layers_->formats, SizeIs(1));
  EXPECT_EQ(layers_->formats[0].compression, store::Compression::kZstd);
  EXPECT_EQ(layers_->formats[0].level, 3);
  EXPECT_TRUE(layers_->formats[0].force);
}

TEST_F(ImageExporterTest, L12RewriteStartsAboveTheBaseImage) {
  for (const char* name : {"base", "mine"}) layers_->Add("tree", name);
  ExportSource source = Single("tree");
  source.metadata["containerimage.base.config"] =
      Json{{"rootfs", {{"diff_ids", {FakeLayerStore::DiffIdOf("base").ToString()}}}}}.dump();
  const Attrs attrs = {{"rewrite-timestamp", "true"}, {"source-date-epoch", "1500000000"}};
  const auto response = Export("oci", attrs, source);
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_THAT(layers_->formats, SizeIs(1));
  EXPECT_EQ(layers_->formats[0].rewrite_from, 1u);
  EXPECT_EQ(layers_->formats[0].rewrite_timestamp, absl::FromUnixSeconds(1500000000));
  const Json layers = BlobJson(response->at("containerimage.digest")).at("layers");
  EXPECT_FALSE(layers[0].contains("annotations"));
  EXPECT_EQ(layers[1].at("annotations"), Json({{"buildkit/rewritten-timestamp", "1500000000"}}));
  // A base that the tree does not stand on is rewritten like everything else.
  source.metadata["containerimage.base.config"] =
      Json{{"rootfs", {{"diff_ids", {FakeLayerStore::DiffIdOf("other").ToString()}}}}}.dump();
  ASSERT_TRUE(Export("oci", attrs, source).ok());
  EXPECT_EQ(layers_->formats.back().rewrite_from, 0u);
}

}  // namespace
}  // namespace kiln::daemon
