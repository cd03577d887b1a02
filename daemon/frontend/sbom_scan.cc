#include "daemon/frontend/sbom_scan.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/llb/exec.h"
#include "client/llb/source.h"
#include "daemon/frontend/dockerfile/syntax/csv.h"
#include "daemon/registry/reference.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

namespace llb = client::llb;

constexpr char kDefaultGenerator[] = "docker/buildkit-syft-scanner:stable-1";
constexpr char kSpdx[] = "https://spdx.dev/Document";
constexpr char kCoreName[] = "sbom";
constexpr char kCoreDir[] = "/run/src/core/sbom";
constexpr char kExtrasDir[] = "/run/src/extras";
constexpr char kOutDir[] = "/run/out/";

llb::Platform ToLlb(const Platform& platform) {
  return {platform.os, platform.architecture, platform.variant, platform.os_version,
          platform.os_features};
}

std::vector<std::string> Strings(const nlohmann::json& config, const char* key) {
  std::vector<std::string> out;
  const auto found = config.find(key);
  if (found == config.end() || !found->is_array()) return out;
  for (const auto& item : *found)
    if (item.is_string()) out.push_back(item.get<std::string>());
  return out;
}

std::pair<std::string, std::string> Variable(absl::string_view text) {
  return absl::StrSplit(text, absl::MaxSplits('=', 1));
}

}  // namespace

absl::StatusOr<std::optional<SbomOptions>> SbomOptions::FromFrontend(
    const std::map<std::string, std::string>& opts) {
  std::optional<std::string> wanted;
  for (const absl::string_view prefix : {"attest:", "build-arg:BUILDKIT_ATTEST_"}) {
    for (auto opt = opts.lower_bound(std::string(prefix));
         opt != opts.end() && absl::StartsWith(opt->first, prefix); ++opt) {
      if (absl::AsciiStrToLower(opt->first.substr(prefix.size())) == "sbom") wanted = opt->second;
    }
  }
  if (!wanted.has_value()) return std::optional<SbomOptions>();
  SbomOptions options;
  std::string generator = kDefaultGenerator;
  std::vector<std::string> fields;
  if (!wanted->empty()) {
    KILN_ASSIGN_OR_RETURN(fields, Annotate(dockerfile::SplitCsv(*wanted), "failed to parse sbom"));
  }
  for (const std::string& field : fields) {
    auto [key, value] = Variable(field);
    if (key == "generator") {
      generator = std::move(value);
    } else {
      options.parameters[std::move(key)] = std::move(value);
    }
  }
  if (generator.empty()) return absl::InvalidArgumentError("sbom generator cannot be empty");
  KILN_ASSIGN_OR_RETURN(const Reference reference,
                        Annotate(Reference::ParseFamiliar(generator),
                                 absl::StrCat("failed to parse sbom scanner ", generator)));
  options.generator = reference.ToString();
  return std::make_optional(std::move(options));
}

absl::StatusOr<SbomScanner> SbomScanner::Create(FrontendClient& client, const SbomOptions& options,
                                                const Platform& platform,
                                                const std::string& resolve_mode) {
  SbomScanner scanner(&client, platform);
  FrontendClient::ImageRequest request;
  request.reference = options.generator;
  request.platform = FormatPlatform(platform);
  request.resolve_mode = resolve_mode;
  KILN_ASSIGN_OR_RETURN(const FrontendClient::Image image, client.ResolveImage(request));
  scanner.image_ = image.reference;
  const nlohmann::json json = nlohmann::json::parse(image.config, nullptr, false);
  const auto bad = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("scanner ", image.reference, ": malformed image config"));
  };
  if (!json.is_object()) return bad();
  const auto config = json.value("config", nlohmann::json::object());
  if (!config.is_object()) return bad();
  scanner.args_ = Strings(config, "Entrypoint");
  for (std::string& arg : Strings(config, "Cmd")) scanner.args_.push_back(std::move(arg));
  if (scanner.args_.empty())
    return absl::InvalidArgumentError(
        absl::StrCat("scanner ", image.reference, " does not have cmd"));
  for (const std::string& variable : Strings(config, "Env"))
    scanner.env_.push_back(Variable(variable));
  const auto dir = config.find("WorkingDir");
  if (dir != config.end() && dir->is_string()) scanner.dir_ = dir->get<std::string>();
  scanner.parameters_ = options.parameters;
  return scanner;
}

absl::StatusOr<BridgeAttestation> SbomScanner::Scan(const Target& target) const {
  llb::ImageInfo info;
  info.constraints.platform = ToLlb(platform_);
  llb::State root = llb::Image(image_, info).Dir(dir_);
  for (const auto& [name, value] : env_) root = root.AddEnv(name, value);
  root = root.AddEnv("BUILDKIT_SCAN_DESTINATION", kOutDir);
  root = root.AddEnv("BUILDKIT_SCAN_SOURCE", kCoreDir);
  if (!target.extras.empty()) root = root.AddEnv("BUILDKIT_SCAN_SOURCE_EXTRAS", kExtrasDir);
  for (const auto& [name, value] : parameters_)
    root = root.AddEnv(absl::StrCat("BUILDKIT_SCAN_", name), value);

  llb::RunInfo run;
  run.args = args_;
  run.constraints = llb::Named(absl::StrCat("[", target.name, "] generating sbom using ", image_));
  run.constraints.metadata.ignore_cache = target.ignore_cache;
  llb::ExecState exec = root.Run(std::move(run));
  exec.AddMount({.target = "/tmp", .tmpfs = true});
  exec.AddMount({.target = kCoreDir, .source = target.core, .readonly = true});
  for (const auto& [name, state] : target.extras)
    exec.AddMount({.target = absl::StrCat(kExtrasDir, "/", kCoreName, "-", name),
                   .source = state,
                   .readonly = true});
  const llb::State out = exec.AddMount({.target = kOutDir});

  llb::Constraints defaults;
  defaults.platform = target.platform;
  KILN_ASSIGN_OR_RETURN(const llb::Definition definition, out.Marshal(defaults));
  FrontendClient::Solve solve;
  solve.definition = definition.Serialize();
  KILN_ASSIGN_OR_RETURN(const BridgeResult solved, client_->SolveGraph(solve));
  BridgeAttestation made;
  made.ref = solved.ref;
  made.attestation.kind = Attestation::Kind::kBundle;
  made.attestation.predicate_type = kSpdx;
  made.attestation.metadata = {{"reason", "sbom"}, {"sbom-core", kCoreName}};
  return made;
}

bool HasSbom(const BridgeResult& result) {
  for (const auto& [platform, attestations] : result.attestations) {
    for (const BridgeAttestation& each : attestations)
      if (each.attestation.predicate_type == kSpdx) return true;
  }
  return false;
}

}  // namespace kiln::daemon
