#include "daemon/exporter/image_exporter.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/daemon/exporter/image_fixture.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

Attestation Predicate(const std::string& type, const std::string& content) {
  Attestation attestation;
  attestation.predicate_type = type;
  attestation.content = content;
  return attestation;
}

TEST_F(ImageExporterTest, E6AMapIsAnIndexASingleRefIsNot) {
  layers_->Add("linux/amd64", "one");
  const auto map = Export("image", {{"name", "a"}}, Map({"linux/amd64"}));
  ASSERT_TRUE(map.ok()) << map.status();
  const Json index = BlobJson(map->at("containerimage.digest"));
  EXPECT_EQ(index.at("mediaType"), kOciIndex);
  EXPECT_EQ(index.at("manifests")[0].at("platform"),
            Json({{"os", "linux"}, {"architecture", "amd64"}}));
  EXPECT_FALSE(map->contains("containerimage.config.digest"));
  const auto single = Export("image", {{"name", "a"}}, Single("linux/amd64"));
  EXPECT_EQ(BlobJson(single->at("containerimage.digest")).at("mediaType"), kOciManifest);
  std::string descriptor;
  ASSERT_TRUE(absl::Base64Unescape(single->at("containerimage.descriptor"), &descriptor));
  EXPECT_EQ(Json::parse(descriptor).at("digest"), single->at("containerimage.digest"));
  EXPECT_EQ(Json::parse(descriptor).at("platform").at("os"), "linux");
}

TEST_F(ImageExporterTest, E8PlatformsOfAScratchBuild) {
  ExportSource source = Map({"linux/amd64", "linux/arm64"});
  source.refs = {{"linux/amd64", nullptr}, {"linux/arm64", nullptr}};
  for (const char* arch : {"amd64", "arm64"})
    source.metadata[std::string("containerimage.config/linux/") + arch] = Json{
        {"os", "linux"},
        {"architecture", arch},
        {"config", {{"Labels", {{"a", arch}}}}}}.dump();
  for (const char* platform : {"linux/amd64", "linux/arm64"})
    source.attestations[platform] = {Predicate("https://slsa.dev/provenance/v1", "{}")};
  const auto response = Export("image", {{"name", "a"}}, source);
  ASSERT_TRUE(response.ok()) << response.status();
  const Json index = BlobJson(response->at("containerimage.digest"));
  ASSERT_THAT(index.at("manifests"), SizeIs(4));  // and a proof of each
  for (size_t i = 0; i < 2; ++i) {
    const Json& entry = index.at("manifests")[i];
    EXPECT_EQ(entry.at("platform").at("architecture"), i == 0 ? "amd64" : "arm64");
    const Json manifest = BlobJson(entry.at("digest"));
    EXPECT_THAT(manifest.at("layers"), IsEmpty());
    EXPECT_EQ(BlobJson(manifest.at("config").at("digest")).at("config").at("Labels").at("a"),
              entry.at("platform").at("architecture"));
  }
}

TEST_F(ImageExporterTest, E9Refusals) {
  ExportSource source = Single("");
  source.metadata["containerimage.config"] = "null";
  EXPECT_EQ(Error("image", {}, source), "invalid null image config for export");
  source.metadata["containerimage.config"] = "{\"architecture\":\"amd64\"}";
  EXPECT_EQ(Error("image", {}, source),
            "invalid image config: os and architecture must be specified together");
  source.metadata.clear();
  source.platforms = {{"linux/amd64", "{\"architecture\":\"amd64\"}"}};
  EXPECT_THAT(Error("image", {}, source), HasSubstr("invalid platform value"));
  ExportSource map = Map({"linux/amd64"});
  map.platforms.clear();
  EXPECT_EQ(Error("image", {}, map), "unable to export multiple refs, missing platforms mapping");
  map = Map({"linux/amd64", "linux/arm64"});
  map.is_map = false;
  EXPECT_EQ(Error("image", {}, map),
            "cannot export multiple platforms without multi-platform enabled");
}

TEST_F(ImageExporterTest, E10AnnotationsOfAllForms) {
  ExportSource source = Map({"linux/amd64", "linux/arm64"});
  source.metadata["annotation.both"] = "metadata";
  const Attrs attrs = {{"annotation.a", "1"},
                       {"annotation.both", "attr"},
                       {"annotation[linux/arm64].b", "2"},
                       {"annotation-manifest-descriptor.c", "3"},
                       {"annotation-index.d", "4"},
                       {"annotation-index-descriptor.e", "5"}};
  const auto response = Export("image", attrs, source);
  ASSERT_TRUE(response.ok()) << response.status();
  const Json index = BlobJson(response->at("containerimage.digest"));
  EXPECT_EQ(index.at("annotations"), Json({{"d", "4"}}));
  EXPECT_EQ(index.at("manifests")[0].at("annotations"), Json({{"c", "3"}}));
  EXPECT_EQ(BlobJson(index.at("manifests")[0].at("digest")).at("annotations"),
            Json({{"a", "1"}, {"both", "metadata"}}));
  EXPECT_EQ(BlobJson(index.at("manifests")[1].at("digest")).at("annotations").at("b"), "2");
  std::string descriptor;
  ASSERT_TRUE(absl::Base64Unescape(response->at("containerimage.descriptor"), &descriptor));
  EXPECT_EQ(Json::parse(descriptor).at("annotations"), Json({{"e", "5"}}));
  // The same of an archive, whose list of names is where its root is described.
  const auto archive = Export("oci", attrs, source);
  ASSERT_TRUE(archive.ok()) << archive.status();
  EXPECT_EQ(archive->at("containerimage.digest"), response->at("containerimage.digest"));
  const auto files = ReadTar(client_.received_file);
  EXPECT_EQ(Json::parse(files.at("index.json")).at("manifests")[0].at("annotations").at("e"), "5");
}

TEST_F(ImageExporterTest, E11AnnotationRefusals) {
  EXPECT_EQ(Error("image", {{"annotation-index.x", "1"}}, Single("")),
            "index annotations not supported for single platform export");
  EXPECT_EQ(Error("image", {{"annotation-index.x", "1"}, {"oci-mediatypes", "false"}},
                  Map({"linux/amd64"})),
            "cannot export annotations with \"oci-mediatypes=false\"");
  EXPECT_EQ(Error("image", {{"annotation[linux/riscv64].x", "1"}}, Map({"linux/amd64"})),
            "invalid annotation: no platform linux/riscv64 found in source");
  // Those of manifests have a place in docker's format, too.
  EXPECT_TRUE(
      Export("image", {{"annotation.x", "1"}, {"oci-mediatypes", "false"}}, Single("")).ok());
}

TEST_F(ImageExporterTest, E12AttestationsOfTwoPlatforms) {
  for (const char* artifact : {"true", "false"}) {
    ExportSource source = Map({"linux/amd64", "linux/arm64"});
    for (const char* platform : {"linux/amd64", "linux/arm64"})
      source.attestations[platform] = {Predicate("https://a", "{ \"x\": 1 }"),
                                       Predicate("https://b", "")};
    const auto response = Export(
        "image", {{"name", "app:v1,localhost:5000/ns/b"}, {"oci-artifact", artifact}}, source);
    ASSERT_TRUE(response.ok()) << response.status();
    const Json index = BlobJson(response->at("containerimage.digest"));
    ASSERT_THAT(index.at("manifests"), SizeIs(4));
    for (int i : {0, 1}) {
      const Json& image = index.at("manifests")[i];
      const Json& entry = index.at("manifests")[i + 2];
      EXPECT_EQ(entry.at("platform"), Json({{"architecture", "unknown"}, {"os", "unknown"}}));
      EXPECT_EQ(entry.at("annotations"),
                Json({{"vnd.docker.reference.type", "attestation-manifest"},
                      {"vnd.docker.reference.digest", image.at("digest")}}));
      const Json manifest = BlobJson(entry.at("digest"));
      ASSERT_THAT(manifest.at("layers"), SizeIs(2));
      const Json& layer = manifest.at("layers")[0];
      EXPECT_EQ(layer.at("mediaType"), kInToto);
      EXPECT_EQ(layer.at("annotations"), Json({{"in-toto.io/predicate-type", "https://a"}}));
      const std::string arch = i == 0 ? "amd64" : "arm64";
      const std::string hex = image.at("digest").get<std::string>().substr(7);
      EXPECT_EQ(Blob(layer.at("digest")),
                "{\"_type\":\"https://in-toto.io/Statement/v1\",\"predicateType\":\"https://a\","
                "\"subject\":[{\"name\":\"pkg:docker/app@v1?platform=linux%2F" +
                    arch + "\",\"digest\":{\"sha256\":\"" + hex +
                    "\"}},{\"name\":\"pkg:docker/localhost%3A5000/ns/b@latest?platform=linux%2F" +
                    arch + "\",\"digest\":{\"sha256\":\"" + hex + "\"}}],\"predicate\":{\"x\":1}}");
      EXPECT_THAT(Blob(manifest.at("layers")[1].at("digest")), HasSubstr("\"predicate\":null"));
      if (std::string(artifact) == "true") {
        EXPECT_EQ(manifest.at("artifactType"), kAttestationManifest);
        EXPECT_EQ(manifest.at("subject").at("digest"), image.at("digest"));
        EXPECT_EQ(manifest.at("config").at("data"), "e30=");
        EXPECT_EQ(Blob(manifest.at("config").at("digest")), "{}");
      } else {
        EXPECT_FALSE(manifest.contains("subject"));
        const Json config = BlobJson(manifest.at("config").at("digest"));
        EXPECT_EQ(config.at("os"), "unknown");
        EXPECT_EQ(config.at("rootfs").at("diff_ids")[1], manifest.at("layers")[1].at("digest"));
      }
    }
  }
}

TEST_F(ImageExporterTest, E16FilesOfABillOfMaterialsNameTheirLayers) {
  layers_->AddBytes("r", "base", WriteTar({"usr/old", "etc/both", "gone"}), "docker.io/library/b");
  layers_->AddBytes("r", "top", WriteTar({"./new", "etc/both", ".wh.gone"}));
  const store::TempDir bundle;
  std::filesystem::create_directory(bundle.path() + "/out");
  const auto write = [&](const std::string& name) {
    std::ofstream(bundle.path() + "/out/" + name)
        << R"({"predicateType":"https://spdx.dev/Document","predicate":{"spdxVersion":"SPDX-2.3",)"
        << R"("files":[{"fileName":"new"},{"fileName":"/etc/both"},{"fileName":"/usr/old"},)"
        << R"({"fileName":"/gone"},{"fileName":"/none"}]}})";
  };
  write("sbom-other.spdx.json");
  write("sbom.spdx.json");
  ExportSource source = Single("r");
  source.platforms = {{"linux/amd64", "{\"os\":\"linux\",\"architecture\":\"amd64\"}"}};
  Attestation attestation;
  attestation.kind = Attestation::Kind::kBundle;
  attestation.predicate_type = "https://spdx.dev/Document";
  attestation.tree = std::make_shared<NamedRef>("b", store::Layers{bundle.path()});
  attestation.path = "/out";
  attestation.metadata = {{"reason", "sbom"}, {"sbom-core", "sbom"}};
  source.attestations["linux/amd64"] = {attestation};
  const auto response = Export("image", {{"name", "app"}}, source);
  ASSERT_TRUE(response.ok()) << response.status();
  const Json index = BlobJson(response->at("containerimage.digest"));
  const Json layers = BlobJson(index.at("manifests")[0].at("digest")).at("layers");
  const Json attached = BlobJson(index.at("manifests")[1].at("digest")).at("layers");
  ASSERT_THAT(attached, SizeIs(2));
  std::vector<std::string> comments;
  const Json core = BlobJson(attached[0].at("digest"));
  for (const Json& file : core.at("predicate").at("files"))
    comments.push_back(file.value("comment", ""));
  const std::string base = "layerID: " + layers[0].at("digest").get<std::string>();
  const std::string top = "layerID: " + layers[1].at("digest").get<std::string>();
  EXPECT_THAT(comments, ElementsAre(top, top, base, base, ""));
  const Json extra = BlobJson(attached[1].at("digest"));
  for (const Json& file : extra.at("predicate").at("files")) EXPECT_FALSE(file.contains("comment"));
}

TEST_F(ImageExporterTest, InlineOnlyAttestationsMakeAnIndexOnlyWhereAskedFor) {
  ExportSource source = Single("");
  source.attestations["linux/amd64"] = {Predicate("t", "{}")};
  source.attestations["linux/amd64"][0].metadata["inline-only"] = "true";
  source.platforms = {{"linux/amd64", "{\"os\":\"linux\",\"architecture\":\"amd64\"}"}};
  EXPECT_FALSE(Export("image", {}, source)->contains("containerimage.config.digest"));
  EXPECT_TRUE(Export("oci", {}, source)->contains("containerimage.config.digest"));
  EXPECT_FALSE(Export("oci", {{"attestation-inline", "true"}}, source)
                   ->contains("containerimage.config.digest"));
  EXPECT_EQ(Error("image", {{"oci-mediatypes", "false"}}, source),
            "cannot export attestations with \"oci-mediatypes=false\"");
}

TEST_F(ImageExporterTest, E14BundleOfStatements) {
  store::TempDir bundle;
  std::filesystem::create_directory(bundle.path() + "/b");
  std::ofstream(bundle.path() + "/b/one.json") << R"({"_type":"x","predicateType":"https://p",
      "predicate":{"k":"v"}})";
  ExportSource source = Map({"linux/amd64"});
  Attestation attestation;
  attestation.kind = Attestation::Kind::kBundle;
  attestation.tree = std::make_shared<NamedRef>("b", store::Layers{bundle.path()});
  attestation.path = "/b";
  source.attestations["linux/amd64"] = {attestation};
  const auto response = Export("image", {{"name", "app"}}, source);
  ASSERT_TRUE(response.ok()) << response.status();
  const Json index = BlobJson(response->at("containerimage.digest"));
  const Json manifest = BlobJson(index.at("manifests")[1].at("digest"));
  ASSERT_THAT(manifest.at("layers"), SizeIs(1));
  const Json statement = BlobJson(manifest.at("layers")[0].at("digest"));
  EXPECT_THAT(statement.at("subject"), SizeIs(1));
  EXPECT_EQ(statement.at("subject")[0].at("name"), "pkg:docker/app@latest?platform=linux%2Famd64");
  // Not just anything is a statement, and none of them may speak for the daemon.
  std::ofstream(bundle.path() + "/b/one.json") << "[]";
  EXPECT_THAT(Error("image", {}, source), HasSubstr("cannot decode in-toto statement"));
  std::ofstream(bundle.path() + "/b/one.json")
      << R"({"predicateType":"https://slsa.dev/provenance/v1"})";
  EXPECT_EQ(Error("image", {}, source), "frontend may not bundle provenance attestations");
}

TEST_F(ImageExporterTest, NamesAreKeptAndHeld) {
  layers_->Add("tree", "one");
  layers_->Add("tree", "lazy", "docker.io/library/base");
  const auto response =
      Export("image", {{"name", "app,b:v2"}, {"name-canonical", ""}}, Single("tree"));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->at("image.name"), "app,b:v2");
  const std::string digest = response->at("containerimage.digest");
  std::vector<std::string> names;
  const auto kept = *images_->List();
  for (const store::NamedImage& each : kept) names.push_back(each.name);
  EXPECT_THAT(names,
              ElementsAre("docker.io/library/app:latest", "docker.io/library/app:latest@" + digest,
                          "docker.io/library/b:v2", "docker.io/library/b:v2@" + digest));
  const store::NamedImage image = *images_->Get("docker.io/library/b:v2");
  ASSERT_THAT(image.remote_layers, SizeIs(1));
  EXPECT_EQ(image.remote_layers[0].origin, "docker.io/library/base");
  EXPECT_EQ(layers_->fetches, 0);
  // The names hold what the export's lease and the records let go.
  holds_.clear();
  ASSERT_TRUE(blobs_->DropLease("records").ok());
  const Digest layer = Digest::Of(FakeLayerStore::BytesOf("one"));
  EXPECT_TRUE(blobs_->Size(layer).ok());
  for (const std::string& name : names) ASSERT_TRUE(images_->Remove(name).ok());
  EXPECT_EQ(blobs_->UsedBytes(), 0);
}

TEST_F(ImageExporterTest, DanglingNames) {
  const auto both = Export("image", {{"name", "a"}, {"dangling-name-prefix", "x"}}, Single(""));
  EXPECT_EQ(both->at("image.name"), "a,x@" + both->at("containerimage.digest"));
  const auto only = Export(
      "image", {{"name", "a"}, {"dangling-name-prefix", "x"}, {"danging-name-empty-only", "true"}},
      Single(""));
  EXPECT_EQ(only->at("image.name"), "a");
  const auto none = Export("image", {{"dangling-name-prefix", "x"}}, Single(""));
  EXPECT_EQ(none->at("image.name"), "x@" + none->at("containerimage.digest"));
}

TEST_F(ImageExporterTest, StarTakesTheFrontendsName) {
  ExportSource source = Single("");
  source.metadata["image.name"] = "from/frontend:1";
  EXPECT_EQ(Export("image", {{"name", "*"}}, source)->at("image.name"), "from/frontend:1");
}

TEST_F(ImageExporterTest, PushesEveryName) {
  layers_->Add("tree", "one");
  const auto response = Export(
      "image", {{"name", "r.test/a:1,r.test/b"}, {"push", "true"}, {"registry.insecure", "1"}},
      Single("tree"));
  ASSERT_TRUE(response.ok()) << response.status();
  const std::string digest = response->at("containerimage.digest");
  EXPECT_EQ(Digest::Of(registry_.manifests.at("r.test/a:1")).ToString(), digest);
  EXPECT_EQ(Digest::Of(registry_.manifests.at("r.test/b:latest")).ToString(), digest);
  // The second repository mounts what the first was sent: a config and a layer.
  EXPECT_EQ(registry_.uploads, 2);
  EXPECT_EQ(registry_.mounts, 2);
  EXPECT_TRUE(registry_.calls[0].insecure);
  EXPECT_THAT(registry_.calls[0].session_ids, ElementsAre("s1"));
  // A pushed image is not kept unless asked for.
  EXPECT_THAT(*images_->List(), IsEmpty());
  ASSERT_TRUE(
      Export("image", {{"name", "r.test/a:1"}, {"push", ""}, {"store", ""}}, Single("tree")).ok());
  EXPECT_THAT(*images_->List(), SizeIs(1));
  EXPECT_EQ(registry_.uploads, 2);
}

TEST_F(ImageExporterTest, PushesAnIndexAfterItsManifests) {
  ExportSource source = Map({"linux/amd64", "linux/arm64"});
  layers_->Add("linux/amd64", "one");
  layers_->Add("linux/arm64", "two");
  source.attestations["linux/amd64"] = {Predicate("t", "{}")};
  const auto response = Export("image", {{"name", "r.test/a"}, {"push", "true"}}, source);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_TRUE(registry_.manifests.contains("r.test/a:latest"));
  EXPECT_EQ(registry_.manifests.size(), 5u);  // tag, index, three manifests
}

TEST_F(ImageExporterTest, E25PushByDigest) {
  const auto response =
      Export("image", {{"name", "r.test/foo/bar"}, {"push", "true"}, {"push-by-digest", "true"}},
             Single(""));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_FALSE(registry_.manifests.contains("r.test/foo/bar:latest"));
  EXPECT_TRUE(
      registry_.manifests.contains("r.test/foo/bar@" + response->at("containerimage.digest")));
  EXPECT_EQ(
      Error("image", {{"name", "r.test/a:b"}, {"push", "1"}, {"push-by-digest", "1"}}, Single("")),
      "failed to push r.test/a:b: can't push tagged ref r.test/a:b by digest");
}

TEST_F(ImageExporterTest, P19LazyLayersAreMountedNotFetched) {
  layers_->Add("tree", "base", "r.test/base");
  registry_.blobs["r.test/base"][Digest::Of(FakeLayerStore::BytesOf("base"))] =
      FakeLayerStore::BytesOf("base");
  ASSERT_TRUE(Export("image", {{"name", "r.test/app"}, {"push", "1"}}, Single("tree")).ok());
  EXPECT_EQ(registry_.mounts, 1);
  EXPECT_EQ(layers_->fetches, 0);
  // To another registry they must travel.
  ASSERT_TRUE(Export("image", {{"name", "other.test/app"}, {"push", "1"}}, Single("tree")).ok());
  EXPECT_EQ(layers_->fetches, 1);
}

TEST_F(ImageExporterTest, E27OneBlobOfTwoExportersIsSentOnce) {
  layers_->Add("tree", "one");
  auto first = *Make("image", {{"name", "r.test/a:1"}, {"push", "1"}});
  auto second = *Make("image", {{"name", "r.test/a:2"}, {"push", "1"}});
  auto one = *first->Export(Single("tree"), context_);
  auto two = *second->Export(Single("tree"), context_);
  absl::Status other;
  registry_.linger = absl::Milliseconds(200);
  std::thread thread([&] { other = two.finalize(context_); });
  EXPECT_TRUE(one.finalize(context_).ok());
  thread.join();
  EXPECT_TRUE(other.ok()) << other;
  EXPECT_EQ(registry_.uploads, 2);  // config and layer
}

TEST_F(ImageExporterTest, WhatWasJustSeenIsNotAskedForAgain) {
  layers_->Add("tree", "one");
  ASSERT_TRUE(Export("image", {{"name", "r.test/a:1"}, {"push", "1"}}, Single("tree")).ok());
  EXPECT_EQ(registry_.asked, 2);  // config and layer
  ASSERT_TRUE(Export("image", {{"name", "r.test/a:2"}, {"push", "1"}}, Single("tree")).ok());
  EXPECT_EQ(registry_.asked, 2);
  EXPECT_THAT(registry_.puts,
              ElementsAre(Registry::PutManifest::kUnlessThere, Registry::PutManifest::kAtOnce));
  EXPECT_EQ(registry_.manifests.at("r.test/a:2"), registry_.manifests.at("r.test/a:1"));
  // Another repository or registry is another matter.
  ASSERT_TRUE(Export("image", {{"name", "r.test/b"}, {"push", "1"}}, Single("tree")).ok());
  ASSERT_TRUE(Export("image", {{"name", "s.test/a"}, {"push", "1"}}, Single("tree")).ok());
  EXPECT_EQ(registry_.asked, 6);
}

TEST_F(ImageExporterTest, WhatTheRegistryLostMeanwhileIsPushedAgain) {
  ExportSource source = Map({"linux/amd64", "linux/arm64"});
  layers_->Add("linux/amd64", "one");
  layers_->Add("linux/arm64", "two");
  const Attrs by_digest = {
      {"name", "r.test/a"}, {"push", "1"}, {"push-by-digest", "1"}, {"name-canonical", "1"}};
  for (const Attrs& attrs : {Attrs{{"name", "r.test/a:1"}, {"push", "1"}}, by_digest}) {
    ASSERT_TRUE(Export("image", attrs, source).ok());
    for (const bool all : {true, false}) {
      if (all) registry_.manifests.clear();
      registry_.blobs["r.test/a"].erase(registry_.blobs["r.test/a"].begin());
      if (all) registry_.blobs.clear();
      const auto again = Export("image", attrs, source);
      ASSERT_TRUE(again.ok()) << again.status();
      EXPECT_EQ(registry_.blobs["r.test/a"].size(), 4u);
      const size_t manifests = attrs.contains("push-by-digest") ? 3 : 4;
      EXPECT_GE(registry_.manifests.size(), manifests);
    }
  }
}

TEST_F(ImageExporterTest, AnotherRefusalIsToldAfterASecondTry) {
  layers_->Add("tree", "one");
  ASSERT_TRUE(Export("image", {{"name", "r.test/a:1"}, {"push", "1"}}, Single("tree")).ok());
  registry_.refusal = absl::FailedPreconditionError("tag is immutable");
  EXPECT_EQ(Error("image", {{"name", "r.test/a:2"}, {"push", "1"}}, Single("tree")),
            "failed to push r.test/a:2: tag is immutable");
  EXPECT_EQ(registry_.asked, 4);
}

TEST_F(ImageExporterTest, FailedPushNamesTheImage) {
  registry_.refusal = absl::PermissionDeniedError("denied by r.test");
  const auto response = Export("image", {{"name", "r.test/a"}, {"push", "1"}}, Single(""));
  EXPECT_EQ(response.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(response.status().message(), "failed to push r.test/a: denied by r.test");
}

TEST_F(ImageExporterTest, L11ForeignLayers) {
  layers_->Add("tree", "one");
  auto& descriptor = layers_->layers["tree"][0].descriptor;
  descriptor.media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
  descriptor.urls = {"https://example.invalid/one"};
  const auto kept =
      Export("image", {{"prefer-nondist-layers", "true"}, {"push", "1"}, {"name", "r.test/a"}},
             Single("tree"));
  // Registries take manifests whose foreign layers they have not got; this one does not.
  EXPECT_THAT(kept.status().message(), HasSubstr("blob unknown"));
  EXPECT_EQ(registry_.uploads, 1);
  const auto converted = Export("image", {{"push", "1"}, {"name", "r.test/a"}}, Single("tree"));
  ASSERT_TRUE(converted.ok()) << converted.status();
  EXPECT_EQ(registry_.uploads, 2);
  const Json layer = BlobJson(converted->at("containerimage.digest")).at("layers")[0];
  EXPECT_EQ(layer.at("mediaType"), store::kOciLayerGzip);
  EXPECT_FALSE(layer.contains("urls"));
}

TEST_F(ImageExporterTest, OlderCompatibilityHasDockersTypes) {
  context_.compatibility_version = 20;
  const auto response = Export("image", {}, Single(""));
  EXPECT_EQ(BlobJson(response->at("containerimage.digest")).at("mediaType"), kDockerManifest);
  context_.compatibility_version = 10;
  EXPECT_THAT(Error("image", {{"compression", "zstd"}}, Single("")),
              HasSubstr("unsupported compatibility-version 10 feature compression=zstd"));
}

TEST_F(ImageExporterTest, RewriteConflictsWithUnpack) {
  EXPECT_EQ(Make("image", {{"unpack", "1"}, {"rewrite-timestamp", "1"}}).status().message(),
            "exporter option \"rewrite-timestamp\" conflicts with \"unpack\"");
}

TEST_F(ImageExporterTest, LeasesOfAnExportEndWithIt) {
  ASSERT_TRUE(Export("image", {}, Single("")).ok());
  EXPECT_GT(blobs_->UsedBytes(), 0);
  holds_.clear();
  EXPECT_EQ(blobs_->UsedBytes(), 0);
  // What a killed daemon leaves goes at the next start.
  auto* lost = new BlobLease(blobs_.get());
  ASSERT_TRUE(lost->Put("x").ok());
  ASSERT_TRUE(SweepExportLeases(*blobs_).ok());
  EXPECT_EQ(blobs_->UsedBytes(), 0);
  delete lost;
}

}  // namespace
}  // namespace kiln::daemon
