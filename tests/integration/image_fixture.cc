#include "tests/integration/image_fixture.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/llb/file_action.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::integration {

namespace llb = client::llb;
using Json = nlohmann::json;

namespace {

constexpr char kManifestTypes[] =
    "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json";

}  // namespace

std::unique_ptr<RegistryProcess> ImageBuildTest::registry_;

client::ExportRequest ToFolder(const std::string& path) {
  client::ExportRequest output;
  output.type = "local";
  output.target = {.kind = client::ExportTarget::Kind::kDirectory, .path = path};
  return output;
}

client::ExportRequest ToRegistry(const std::string& name, const Attrs& more) {
  client::ExportRequest output;
  output.type = "image";
  output.attrs = more;
  output.attrs["name"] = name;
  output.attrs["push"] = "true";
  return output;
}

client::CacheEntry RegistryCache(const std::string& ref, const Attrs& more) {
  client::CacheEntry cache{"registry", more};
  cache.attrs["ref"] = ref;
  return cache;
}

bool Ran(const SeenProgress& seen, const std::string& name) {
  const StepSeen step = seen.step(name);
  return step.started && !step.cached;
}

void ImageBuildTest::SetUpTestSuite() {
  registry_ = std::make_unique<RegistryProcess>();
  const absl::Status started = registry_->Start();
  ASSERT_TRUE(started.ok()) << started;
}

void ImageBuildTest::TearDownTestSuite() { registry_.reset(); }

void ImageBuildTest::SetUp() {
  BuildTest::SetUp();
  if (HasFatalFailure() || HasManifest("base", "latest")) return;
  const auto pushed = Solve({.state = base_.state(), .outputs = {ToRegistry(In("base"))}});
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  Prune();
}

llb::State ImageBuildTest::BaseImage() { return llb::Image(In("base")).AddEnv("PATH", "/bin"); }

absl::StatusOr<Attrs> ImageBuildTest::Solve(const ImageBuild& build, SeenProgress* seen) {
  KILN_ASSIGN_OR_RETURN(const llb::Definition definition, build.state.Marshal());
  client::ConnectOptions connect;
  connect.address = daemon_->address();
  KILN_ASSIGN_OR_RETURN(const auto connection, client::Connection::Open(connect));
  client::SolveOptions options;
  options.definition = definition.Serialize();
  options.frontend_attrs = build.frontend_attrs;
  options.outputs = build.outputs;
  options.cache_exports = build.to;
  options.cache_imports = build.from;
  options.local_dirs = build.locals;
  options.local_dirs["base"] = base_.path();
  SeenProgress unseen;
  KILN_ASSIGN_OR_RETURN(client::SolveResult result,
                        client::Solve(*connection, options, seen != nullptr ? seen : &unseen));
  return std::move(result.exporter_response);
}

std::string ImageBuildTest::Content(ImageBuild build, const std::string& path, SeenProgress* seen) {
  const TempDir out;
  build.outputs.push_back(ToFolder(out.path()));
  const auto done = Solve(build, seen);
  EXPECT_TRUE(done.ok()) << done.status();
  return Slurp(absl::StrCat(out.path(), "/", path));
}

std::string ImageBuildTest::Output(std::vector<std::string> args) {
  ProcessOptions options;
  options.args = std::move(args);
  auto out = RunCommandForOutput(options, CancelToken());
  EXPECT_TRUE(out.ok()) << out.status();
  return out.value_or("");
}

std::string ImageBuildTest::Kiln(std::vector<std::string> args) {
  std::vector<std::string> all = {KILN_BINARY, "--addr", daemon_->address()};
  all.insert(all.end(), args.begin(), args.end());
  return Output(std::move(all));
}

Json ImageBuildTest::Manifest(const std::string& repository, const std::string& name) {
  return Json::parse(Output(
      {"curl", "-sf", "-H", kManifestTypes,
       absl::StrCat("http://", registry_->host(), "/v2/", repository, "/manifests/", name)}));
}

Json ImageBuildTest::Blob(const std::string& repository, const std::string& digest) {
  return Json::parse(
      Output({"curl", "-sf",
              absl::StrCat("http://", registry_->host(), "/v2/", repository, "/blobs/", digest)}));
}

bool ImageBuildTest::HasManifest(const std::string& repository, const std::string& name) {
  ProcessOptions options;
  options.args = {
      "curl",
      "-sf",
      "-I",
      "-H",
      kManifestTypes,
      absl::StrCat("http://", registry_->host(), "/v2/", repository, "/manifests/", name)};
  return RunCommandForOutput(options, CancelToken()).ok();
}

}  // namespace kiln::integration
