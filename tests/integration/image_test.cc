// Images out of a real kilnd, as judged by programs of others: skopeo, umoci, a registry.

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/connection.h"
#include "client/llb/file_action.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "store/base/process.h"
#include "tests/integration/gateway_client.h"
#include "tests/integration/image_fixture.h"

namespace kiln::integration {
namespace {

namespace fs = std::filesystem;
namespace llb = client::llb;
namespace pbc = moby::buildkit::v1;
using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

class ImageTest : public ImageBuildTest {
 protected:
  // Two layers on nothing.
  static llb::State TwoLayers() {
    return llb::State()
        .File(llb::Mkfile("/one", 0644, "first\n"))
        .File(llb::Mkfile("/two", 0600, "second\n"));
  }

  absl::StatusOr<Attrs> Export(const std::string& type, const Attrs& attrs,
                               const std::string& file = "", const Attrs& frontend_attrs = {}) {
    client::ExportRequest output;
    output.type = type;
    output.attrs = attrs;
    if (!file.empty()) output.target = {.kind = client::ExportTarget::Kind::kFile, .path = file};
    return Solve({.state = TwoLayers(), .outputs = {output}, .frontend_attrs = frontend_attrs});
  }
};

TEST_F(ImageTest, SkopeoAndUmociReadAnOciArchive) {
  const std::string file = dir_.path() + "/image.tar";
  const auto response = Export("oci", {{"name", "app:v1"}}, file);
  ASSERT_TRUE(response.ok()) << response.status();
  const Json inspected = Json::parse(Output({"skopeo", "inspect", "oci-archive:" + file}));
  EXPECT_EQ(inspected.at("Digest"), response->at("containerimage.digest"));
  EXPECT_EQ(inspected.at("Layers").size(), 2u);
  Output({"skopeo", "copy", "-q", "oci-archive:" + file, "oci:" + dir_.path() + "/layout:v1"});
  Output({"umoci", "unpack", "--image", dir_.path() + "/layout:v1", dir_.path() + "/bundle"});
  EXPECT_EQ(Slurp(dir_.path() + "/bundle/rootfs/one"), "first\n");
  EXPECT_EQ(Slurp(dir_.path() + "/bundle/rootfs/two"), "second\n");
  EXPECT_EQ(fs::status(dir_.path() + "/bundle/rootfs/two").permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(ImageTest, SkopeoReadsADockerArchive) {
  const std::string file = dir_.path() + "/image.tar";
  ASSERT_TRUE(Export("docker", {{"name", "app:v1"}}, file).ok());
  const Json inspected =
      Json::parse(Output({"skopeo", "inspect", "docker-archive:" + file + ":app:v1"}));
  EXPECT_EQ(inspected.at("Layers").size(), 2u);
  EXPECT_EQ(inspected.at("Os"), "linux");
}

TEST_F(ImageTest, E3AFolderHoldsWhatTheArchiveDoes) {
  const Attrs epoch = {{"source-date-epoch", "1600000000"}, {"rewrite-timestamp", "true"}};
  const std::string file = dir_.path() + "/image.tar", folder = dir_.path() + "/folder";
  ASSERT_TRUE(Export("oci", epoch, file).ok());
  client::ExportRequest layout;
  layout.type = "oci";
  layout.attrs = epoch;
  layout.attrs["tar"] = "false";
  layout.target = {.kind = client::ExportTarget::Kind::kLayout, .path = folder};
  const auto done = Solve({.state = TwoLayers(), .outputs = {layout}});
  ASSERT_TRUE(done.ok()) << done.status();
  fs::create_directory(dir_.path() + "/x");
  Output({"tar", "-C", dir_.path() + "/x", "-xf", file});
  Output({"diff", "-r", "-x", "index.json", "-x", "ingest", dir_.path() + "/x", folder});
  EXPECT_EQ(Json::parse(Output({"skopeo", "inspect", "oci:" + folder})).at("Layers").size(), 2u);
}

TEST_F(ImageTest, EqualBuildsGiveEqualImages) {
  const Attrs attrs = {{"source-date-epoch", "1600000000"}, {"rewrite-timestamp", "true"}};
  const auto first = Export("oci", attrs, dir_.path() + "/a.tar");
  ASSERT_TRUE(first.ok()) << first.status();
  auto other = KilndProcess::Start({});
  ASSERT_TRUE(other.ok()) << other.status();
  std::swap(daemon_, *other);
  const auto second = Export("oci", attrs, dir_.path() + "/b.tar");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(first->at("containerimage.digest"), second->at("containerimage.digest"));
  EXPECT_EQ(Slurp(dir_.path() + "/a.tar"), Slurp(dir_.path() + "/b.tar"));
}

TEST_F(ImageTest, PushedImagesComeBackFromTheRegistry) {
  const std::string name = In("team/app");
  const auto response =
      Export("image", {{"name", name + ":v1," + name + "-other:v2"}, {"push", "true"}}, "",
             {{"attest:provenance", "mode=max"}});
  ASSERT_TRUE(response.ok()) << response.status();
  for (const std::string& each : {name + ":v1", name + "-other:v2"}) {
    const std::string raw =
        Output({"skopeo", "inspect", "--raw", "--tls-verify=false", "docker://" + each});
    EXPECT_EQ(Digest::Of(raw).ToString(), response->at("containerimage.digest"));
  }
  Output({"skopeo", "copy", "-q", "--all", "--src-tls-verify=false", "docker://" + name + ":v1",
          "dir:" + dir_.path() + "/copy"});
  // E25: by digest no tag appears.
  const auto by_digest =
      Export("image", {{"name", name + "-digest"}, {"push", "true"}, {"push-by-digest", "true"}});
  ASSERT_TRUE(by_digest.ok()) << by_digest.status();
  Output({"skopeo", "inspect", "--no-tags", "--tls-verify=false",
          "docker://" + name + "-digest@" + by_digest->at("containerimage.digest")});
  ProcessOptions tag;
  tag.args = {"skopeo", "inspect", "--no-tags", "--tls-verify=false",
              "docker://" + name + "-digest:latest"};
  EXPECT_FALSE(RunCommandForOutput(tag, CancelToken()).ok());
}

TEST_F(ImageTest, L9OneLayerInTwoCompressions) {
  // The layers are made twice, maybe in different seconds.
  const llb::MkfileInfo then = {.created = absl::FromUnixSeconds(1700000000)};
  const llb::State layers = llb::State()
                                .File(llb::Mkfile("/one", 0644, "first\n", then))
                                .File(llb::Mkfile("/two", 0600, "second\n", then));
  const auto push = [&](const llb::State& state, const std::string& name, const char* level) {
    const auto done = Solve({.state = state,
                             .outputs = {ToRegistry(In(name), {{"compression", "gzip"},
                                                               {"compression-level", level},
                                                               {"force-compression", "true"}})}});
    EXPECT_TRUE(done.ok()) << done.status();
    Prune();
    return Manifest(name, "latest");
  };
  const Json fast = push(layers, "l9", "0");
  const Json best = push(layers.File(llb::Mkfile("/three", 0644, "3")), "l9-more", "9");
  ASSERT_EQ(best.at("layers").size(), 3u);
  EXPECT_NE(fast.at("layers")[0].at("digest"), best.at("layers")[0].at("digest"));
  const auto diff_ids = [](const char* name, const Json& manifest) {
    return Blob(name, manifest.at("config").at("digest")).at("rootfs").at("diff_ids");
  };
  EXPECT_EQ(diff_ids("l9", fast)[0], diff_ids("l9-more", best)[0]);
  // The daemon now knows two blobs of the shared layers; every export finds one that will do.
  for (const char* name : {"l9", "l9-more"}) {
    const auto again =
        Solve({.state = llb::Image(In(name)), .outputs = {ToRegistry(In("l9-again"))}});
    ASSERT_TRUE(again.ok()) << again.status();
    Output({"skopeo", "copy", "-q", "--src-tls-verify=false", "docker://" + In("l9-again"),
            absl::StrCat("oci:", dir_.path(), "/", name, ":v")});
    Output({"umoci", "unpack", "--image", absl::StrCat(dir_.path(), "/", name, ":v"),
            absl::StrCat(dir_.path(), "/", name, "-bundle")});
    EXPECT_EQ(Slurp(absl::StrCat(dir_.path(), "/", name, "-bundle/rootfs/two")), "second\n");
  }
}

TEST_F(ImageTest, L10ZstdLayersKeepTheirBytes) {
  ASSERT_TRUE(
      Solve({.state = TwoLayers(), .outputs = {ToRegistry(In("l10"), {{"compression", "zstd"}})}})
          .ok());
  const Json made = Manifest("l10", "latest");
  Prune();
  for (const bool oci : {true, false}) {
    const auto again = Solve(
        {.state = llb::Image(In("l10")),
         .outputs = {ToRegistry(In("l10-again"), {{"oci-mediatypes", oci ? "true" : "false"}})}});
    ASSERT_TRUE(again.ok()) << again.status();
    const Json manifest = Manifest("l10-again", "latest");
    for (size_t i = 0; i < 2; ++i) {
      const Json& layer = manifest.at("layers")[i];
      EXPECT_EQ(layer.at("digest"), made.at("layers")[i].at("digest"));
      EXPECT_EQ(layer.at("mediaType"), oci ? "application/vnd.oci.image.layer.v1.tar+zstd"
                                           : "application/vnd.docker.image.rootfs.diff.tar.zstd");
    }
  }
}

TEST_F(ImageTest, ProvenanceIsAttached) {
  const std::string file = dir_.path() + "/image.tar";
  const auto response = Export("oci", {{"name", "app"}}, file, {{"attest:provenance", "mode=max"}});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_FALSE(response->contains("containerimage.config.digest"));
  fs::create_directory(dir_.path() + "/x");
  Output({"tar", "-C", dir_.path() + "/x", "-xf", file});
  const auto blob = [this](const Json& descriptor) {
    return Json::parse(Slurp(absl::StrCat(dir_.path(), "/x/blobs/sha256/",
                                          descriptor.at("digest").get<std::string>().substr(7))));
  };
  const Json index = blob(Json::parse(Slurp(dir_.path() + "/x/index.json")).at("manifests")[0]);
  ASSERT_EQ(index.at("manifests").size(), 2u);
  const Json statement = blob(blob(index.at("manifests")[1]).at("layers")[0]);
  EXPECT_EQ(statement.at("predicateType"), "https://slsa.dev/provenance/v1");
  EXPECT_EQ(statement.at("subject")[0].at("digest").at("sha256"),
            index.at("manifests")[0].at("digest").get<std::string>().substr(7));
  const Json& definition = statement.at("predicate").at("buildDefinition");
  EXPECT_EQ(definition.at("internalParameters").at("buildConfig").at("llbDefinition").size(), 2u);
}

TEST_F(ImageTest, AFrontendIsToldWhatAnImageIsProvenWith) {
  const std::string name = In("proven");
  const auto pushed =
      Export("image", {{"name", name}, {"push", "true"}}, "", {{"attest:provenance", "mode=max"}});
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  const absl::Status asked =
      GatewayClient::InBuild(daemon_->address(), base_, [&](GatewayClient& client) {
        gateway::ResolveSourceMetaRequest request;
        request.mutable_source()->set_identifier("docker-image://" + name + ":latest");
        request.mutable_image()->set_noconfig(true);
        request.mutable_image()->add_resolveattestations("https://slsa.dev/provenance/v1");
        gateway::ResolveSourceMetaResponse response;
        const absl::Status status =
            client.Call(&gateway::LLBBridge::Stub::ResolveSourceMeta, request, &response);
        ASSERT_TRUE(status.ok()) << status;
        const auto& chain = response.image().attestationchain();
        EXPECT_EQ(chain.root(), pushed->at("containerimage.digest"));
        EXPECT_EQ(chain.signaturemanifests_size(), 0);
        ASSERT_EQ(chain.blobs_size(), 3) << "index, attestations and the statement";
        const Json manifest = Json::parse(chain.blobs().at(chain.attestationmanifest()).data());
        const Json statement = Json::parse(
            chain.blobs().at(manifest.at("layers")[0].at("digest").get<std::string>()).data());
        EXPECT_EQ(
            "sha256:" + statement.at("subject")[0].at("digest").at("sha256").get<std::string>(),
            chain.imagemanifest());
      });
  EXPECT_TRUE(asked.ok()) << asked;
}

// The scanner lists /foo, which the image has, and /bar, which it has not.
TEST_F(ImageTest, E15AndE16AScannerListsWhatAnImageConsistsOf) {
  RegistryProcess registry;
  ASSERT_TRUE(registry.Start().ok());
  const std::string scanner = registry.host() + "/scanner";
  dir_.Write("scanner/Dockerfile",
             "FROM base\nCOPY scan /scan\nENTRYPOINT [\"/bin/sh\", \"/scan\"]\n");
  dir_.Write("scanner/scan",
             "set -e\n[ \"$BUILDKIT_SCAN_KIND\" = deep ]\n"
             "cd $BUILDKIT_SCAN_SOURCE\n[ -z \"$(ls /tmp)\" ]\n! touch x 2>/dev/null\n"
             "for f in core $(cd /run/src/extras 2>/dev/null && ls || true); do\n"
             "name=sbom; [ $f = core ] || name=$f\n"
             "echo '{\"_type\":\"https://in-toto.io/Statement/v0.1\","
             "\"predicateType\":\"https://spdx.dev/Document\",\"predicate\":"
             "{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"'$(ls)'\",\"files\":"
             "[{\"fileName\":\"/foo\"},{\"fileName\":\"/bar\"}]}}' "
             "> $BUILDKIT_SCAN_DESTINATION/$name.spdx.json\ndone\n");
  Kiln({"build", dir_.path() + "/scanner", "--build-context", "base=" + base_.path(), "-t", scanner,
        "--push"});
  dir_.Write("app/Dockerfile",
             "FROM scratch\nARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nCOPY foo /foo\n");
  dir_.Write("app/foo", "text");
  const std::string sbom = "--sbom=generator=" + scanner + ",KIND=deep";
  const std::string app = registry.host() + "/app";
  Kiln({"build", dir_.path() + "/app", "-t", app, "--push", sbom});

  const auto raw = [this](const std::string& image) {
    return Json::parse(
        Output({"skopeo", "inspect", "--raw", "--tls-verify=false", "docker://" + image}));
  };
  const Json index = raw(app);
  ASSERT_EQ(index.at("manifests").size(), 2u);
  const auto by_digest = [&](const Json& descriptor) {
    return app + "@" + descriptor.at("digest").get<std::string>();
  };
  const Json image = raw(by_digest(index.at("manifests")[0]));
  const Json attached = raw(by_digest(index.at("manifests")[1]));
  ASSERT_EQ(attached.at("layers").size(), 2u);
  Output({"skopeo", "copy", "-q", "--all", "--src-tls-verify=false", "docker://" + app,
          "oci:" + dir_.path() + "/layout"});
  const auto statement = [&](const Json& layer) {
    EXPECT_EQ(layer.at("annotations").at("in-toto.io/predicate-type"), "https://spdx.dev/Document");
    return Json::parse(Slurp(absl::StrCat(dir_.path(), "/layout/blobs/sha256/",
                                          layer.at("digest").get<std::string>().substr(7))));
  };
  const Json core = statement(attached.at("layers")[0]);
  EXPECT_EQ(core.at("predicate").at("name"), "foo");
  EXPECT_EQ(core.at("subject")[0].at("digest").at("sha256"),
            index.at("manifests")[0].at("digest").get<std::string>().substr(7));
  const Json& files = core.at("predicate").at("files");
  EXPECT_EQ(files[0].at("comment"),
            "layerID: " + image.at("layers")[0].at("digest").get<std::string>());
  EXPECT_FALSE(files[1].contains("comment"));
  const Json extra = statement(attached.at("layers")[1]);
  EXPECT_FALSE(extra.at("predicate").at("files")[0].contains("comment"));

  // A graph without a frontend is scanned by the daemon itself.
  const auto direct = Export("image", {{"name", registry.host() + "/direct"}, {"push", "true"}}, "",
                             {{"attest:sbom", "generator=" + scanner + ",KIND=deep"}});
  ASSERT_TRUE(direct.ok()) << direct.status();
  EXPECT_EQ(raw(registry.host() + "/direct").at("manifests").size(), 2u);
}

TEST_F(ImageTest, ImagesAreKeptByNameUntilRemoved) {
  const auto response = Export("image", {{"name", "app:v1"}});
  ASSERT_TRUE(response.ok()) << response.status();
  const Json listed = Json::parse(Kiln({"images", "--json"}));
  EXPECT_EQ(listed.at("name"), "docker.io/library/app:v1");
  EXPECT_EQ(listed.at("digest"), response->at("containerimage.digest"));
  EXPECT_EQ(listed.at("missingBytes"), 0);
  EXPECT_THAT(Kiln({"du"}), HasSubstr("image:docker.io/library/app:v1"));
  // Neither a prune nor a restart touches it.
  Kiln({"prune", "--all"});
  ASSERT_TRUE(daemon_->Stop().ok());
  ASSERT_TRUE(daemon_->Restart().ok());
  const std::string name = In("pushed:v2");
  Kiln({"tag", "app:v1", name});
  EXPECT_THAT(Kiln({"push", name}), HasSubstr(response->at("containerimage.digest")));
  const std::string raw =
      Output({"skopeo", "inspect", "--raw", "--tls-verify=false", "docker://" + name});
  EXPECT_EQ(Digest::Of(raw).ToString(), response->at("containerimage.digest"));
  Kiln({"rmi", "app:v1", name});
  EXPECT_EQ(Kiln({"images", "--json"}), "");
  EXPECT_THAT(Kiln({"du"}), Not(HasSubstr("image:")));
}

TEST_F(ImageTest, E23SeveralExportersInOneBuild) {
  ImageBuild build{.state = TwoLayers()};
  for (const char* name : {"one", "two"}) {
    client::ExportRequest image;
    image.type = "image";
    image.attrs["name"] = name;
    image.attrs["oci-mediatypes"] = name == std::string("one") ? "true" : "false";
    build.outputs.push_back(image);
    client::ExportRequest tree;
    tree.type = "local";
    tree.target = {.kind = client::ExportTarget::Kind::kDirectory,
                   .path = absl::StrCat(dir_.path(), "/", name)};
    build.outputs.push_back(tree);
    client::ExportRequest tar;
    tar.type = "tar";
    tar.target = {.kind = client::ExportTarget::Kind::kFile,
                  .path = absl::StrCat(dir_.path(), "/", name, ".tar")};
    build.outputs.push_back(tar);
  }
  const auto response = Solve(build);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->at("image.name"), "two");
  for (const char* name : {"one", "two"}) {
    EXPECT_EQ(Slurp(absl::StrCat(dir_.path(), "/", name, "/one")), "first\n");
    EXPECT_FALSE(Slurp(absl::StrCat(dir_.path(), "/", name, ".tar")).empty());
  }
  EXPECT_THAT(Kiln({"images"}), HasSubstr("docker.io/library/one:latest"));

  client::ConnectOptions connect;
  connect.address = daemon_->address();
  const auto connection = client::Connection::Open(connect);
  ASSERT_TRUE(connection.ok()) << connection.status();
  const auto control = pbc::Control::NewStub((*connection)->channel());
  pbc::BuildHistoryRequest request;
  request.set_earlyexit(true);
  grpc::ClientContext context;
  const auto events = control->ListenBuildHistory(&context, request);
  int found = 0;
  for (pbc::BuildHistoryEvent event; events->Read(&event);) {
    if (event.record().exporters_size() != 6) continue;  // another build of the suite's daemon
    ++found;
    const pbc::BuildResultInfo& result = event.record().result();
    ASSERT_EQ(result.results_size(), 2);
    EXPECT_EQ(result.results().at(0).media_type(), "application/vnd.oci.image.manifest.v1+json");
    EXPECT_EQ(result.results().at(3).media_type(),
              "application/vnd.docker.distribution.manifest.v2+json");
    EXPECT_EQ(result.resultdeprecated().digest(), result.results().at(0).digest());
  }
  EXPECT_EQ(found, 1);
}

}  // namespace
}  // namespace kiln::integration
