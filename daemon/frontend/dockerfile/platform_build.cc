#include "daemon/frontend/dockerfile/platform_build.h"

#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/llb_platform.h"
#include "daemon/frontend/dockerfile/parallel.h"
#include "daemon/frontend/sbom_scan.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

constexpr char kConfig[] = "containerimage.config";
constexpr char kBaseConfig[] = "containerimage.base.config";
constexpr char kEpoch[] = "source.date.epoch";
constexpr char kPlatforms[] = "refs.platforms";

// What an exporter is told of a platform. A Windows image decides on its version.
Platform ExportPlatform(const Platform& wanted, const Platform& image) {
  Platform platform = NormalizePlatform(wanted);
  if (platform.os == "windows" && image.os == platform.os) {
    if (platform.os_version.empty()) platform.os_version = image.os_version;
    if (platform.os_features.empty()) platform.os_features = image.os_features;
    platform = NormalizePlatform(std::move(platform));
  }
  return platform;
}

void WritePlatform(const std::string& id, const Platform& platform, GoJson& json) {
  json.BeginObject().Key("ID").String(id).Key("Platform").BeginObject();
  json.Key("architecture").String(platform.architecture);
  json.Key("os").String(platform.os);
  json.OptString("os.version", platform.os_version);
  if (!platform.os_features.empty()) {
    json.Key("os.features").BeginArray();
    for (const std::string& feature : platform.os_features) json.String(feature);
    json.EndArray();
  }
  json.OptString("variant", platform.variant);
  json.EndObject().EndObject();
}

// The target and what its scan arguments name (dockerfile.md 8.4).
SbomScanner::Target ScanTarget(const std::string& id, const Platform& platform,
                               const Compilation& compilation) {
  const StageState& target = compilation.target();
  SbomScanner::Target scan;
  scan.name = id;
  scan.core = target.state;
  scan.platform = ToLlb(platform);
  scan.ignore_cache = target.ignore_cache;
  if (target.scan_context) scan.extras["context"] = compilation.main_context();
  for (const StageState* stage : compilation.NeededStages()) {
    if (stage == &target || !stage->scan_stage) continue;
    scan.extras[stage->name] = stage->state;
    scan.ignore_cache |= stage->ignore_cache;
  }
  return scan;
}

}  // namespace

absl::StatusOr<BridgeResult> BuildPlatforms(BuildSources& sources, ImageLookup& images,
                                            const Options& options,
                                            const BuildSources::Dockerfile& dockerfile,
                                            Linter::Sink lint) {
  std::vector<std::optional<Platform>> targets(options.target_platforms.begin(),
                                               options.target_platforms.end());
  if (targets.empty()) targets.emplace_back();
  std::optional<SbomScanner> scanner;
  if (options.sbom) {
    KILN_ASSIGN_OR_RETURN(
        scanner, SbomScanner::Create(sources.client(), *options.sbom, options.build_platforms[0],
                                     options.resolve_mode_name));
  }
  std::vector<PlatformBuild> builds(targets.size());
  std::vector<std::function<absl::Status()>> tasks;
  for (size_t i = 0; i < targets.size(); ++i) {
    tasks.push_back([&, i]() -> absl::Status {
      CompilationRequest request;
      request.sources = &sources;
      request.images = &images;
      request.options = &options;
      request.text = dockerfile.text;
      request.target_platform = targets[i];
      if (i == 0) request.lint = lint;  // the others find the same
      builds[i].compilation = std::make_unique<Compilation>(std::move(request));
      KILN_RETURN_IF_ERROR(builds[i].compilation->Run());
      if (builds[i].compilation->reads_main_context()) {
        sources.BeginMainContext(builds[i].compilation->main_context());
      }
      FrontendClient::Solve solve;
      KILN_ASSIGN_OR_RETURN(client::llb::Definition definition, builds[i].compilation->Marshal());
      solve.definition = std::move(definition).Serialize();
      solve.cache_imports = options.cache_imports;
      KILN_ASSIGN_OR_RETURN(const BridgeResult solved, sources.client().SolveGraph(solve));
      builds[i].ref = solved.ref;
      return absl::OkStatus();
    });
  }
  KILN_RETURN_IF_ERROR(RunInParallel(tasks));

  BridgeResult result;
  result.is_map = options.multi_platform;
  GoJson platforms;
  platforms.BeginObject().Key("Platforms").BeginArray();
  for (size_t i = 0; i < targets.size(); ++i) {
    const Compilation& compilation = *builds[i].compilation;
    const DockerImage& image = compilation.target().image;
    const Platform wanted = targets[i].value_or(options.build_platforms[0]);
    const std::string id = FormatPlatform(NormalizePlatform(wanted));
    const std::string suffix = options.multi_platform ? absl::StrCat("/", id) : "";
    if (options.multi_platform) {
      result.refs[id] = builds[i].ref;
    } else {
      result.ref = builds[i].ref;
    }
    result.metadata[absl::StrCat(kConfig, suffix)] = image.ToJson();
    if (const auto& base = compilation.target().base_image) {
      result.metadata[absl::StrCat(kBaseConfig, suffix)] = base->ToJson();
    }
    if (compilation.epoch()) {
      result.metadata[absl::StrCat(kEpoch, suffix)] = absl::StrCat(*compilation.epoch());
    }
    WritePlatform(id, ExportPlatform(wanted, image.platform), platforms);
    if (scanner) {
      KILN_ASSIGN_OR_RETURN(BridgeAttestation sbom,
                            scanner->Scan(ScanTarget(id, wanted, compilation)));
      result.attestations[id].push_back(std::move(sbom));
    }
  }
  result.metadata[kPlatforms] = platforms.EndArray().EndObject().Take();
  return result;
}

}  // namespace kiln::daemon::dockerfile
