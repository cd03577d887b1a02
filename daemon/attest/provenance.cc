#include "daemon/attest/provenance.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace kiln::daemon {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kBuildType1[] =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
constexpr char kBuildType02[] = "https://mobyproject.org/buildkit@v1";
constexpr char kMetadata02[] = "https://mobyproject.org/buildkit@v1#metadata";
constexpr char kHermetic02[] = "https://mobyproject.org/buildkit@v1#hermetic";

// Options that say how to build here, not what.
bool IsInternal(absl::string_view key) {
  for (const char* name : {"platform", "cache-imports", "cgroup-parent", "image-resolve-mode",
                           "contextkey", "frontend.caps", "requestid", "cmdline"})
    if (key == name) return true;
  return absl::StartsWith(key, "attest:") || absl::StartsWith(key, "local-sessionid:") ||
         absl::StartsWith(key, "build-arg:BUILDKIT_ATTEST_");
}

std::string Time(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", time, absl::UTCTimeZone());
}

Json DigestSet(const BuildDependency& dependency) {
  Json set = Json::object();
  if (!dependency.hex.empty()) set[dependency.algorithm] = dependency.hex;
  return set;
}

// The pieces that both versions are made of.
struct Pieces {
  std::string frontend;
  Json args = Json::object(), vcs = Json::object();
  Json secrets = Json::array(), ssh = Json::array(), locals = Json::array();
  Json config_source = Json::object();
  std::string entry_point;
  Json dependencies = Json::array();
  bool request_complete = true, materials_complete = true, hermetic = false;
};

Json Ids(const std::map<std::string, bool>& ids) {
  Json list = Json::array();
  for (const auto& [id, optional] : ids) {
    Json item = {{"id", id}};
    if (optional) item["optional"] = true;
    list.push_back(std::move(item));
  }
  return list;
}

Pieces Collect(const BuildRequest& request, const BuildFacts& facts, bool max) {
  Pieces out;
  out.frontend = request.frontend;
  out.request_complete = !request.frontend.empty();
  for (const auto& [key, value] : request.opts) {
    absl::string_view name = key;
    if (IsInternal(key)) continue;
    if (absl::ConsumePrefix(&name, "vcs:")) {
      if (!value.empty())
        out.vcs[std::string(name)] = name == "source" ? RedactCredentials(value) : value;
    } else if (key == "context" && absl::StrContains(value, "://")) {
      out.config_source["uri"] = RedactCredentials(value);
    } else if (!max && (absl::StartsWith(key, "build-arg:") || absl::StartsWith(key, "label:"))) {
      out.request_complete = false;
    } else {
      out.args[key] = RedactCredentials(value);
    }
  }
  if (const auto found = out.args.find("filename"); found != out.args.end()) {
    out.entry_point = found->get<std::string>();
    out.args.erase(found);
  }
  if (!out.entry_point.empty()) out.config_source["path"] = out.entry_point;
  if (max) {
    out.secrets = Ids(facts.secrets);
    out.ssh = Ids(facts.ssh);
  } else if (!facts.secrets.empty() || !facts.ssh.empty()) {
    out.request_complete = false;
  }
  for (const std::string& name : facts.locals) out.locals.push_back({{"name", name}});
  for (const BuildDependency& dependency : facts.dependencies) {
    Json item = {{"uri", dependency.uri}};
    if (Json digest = DigestSet(dependency); !digest.empty()) item["digest"] = digest;
    if (out.config_source.contains("uri") && out.config_source["uri"] == dependency.uri &&
        !dependency.hex.empty())
      out.config_source["digest"] = DigestSet(dependency);
    out.dependencies.push_back(std::move(item));
  }
  out.materials_complete = facts.locals.empty() && facts.unpinned.empty();
  out.hermetic = out.materials_complete && !facts.network;
  return out;
}

Json Parameters(const Pieces& pieces) {
  Json request = Json::object();
  if (!pieces.frontend.empty()) request["frontend"] = pieces.frontend;
  for (const auto& [name, value] : {std::pair("args", &pieces.args),
                                    {"secrets", &pieces.secrets},
                                    {"ssh", &pieces.ssh},
                                    {"locals", &pieces.locals}})
    if (!value->empty()) request[name] = *value;
  return request;
}

Json BuildkitMetadata(const Pieces& pieces, const BuildFacts& facts, bool max) {
  Json metadata = Json::object();
  if (!pieces.vcs.empty()) metadata["vcs"] = pieces.vcs;
  if (max && !facts.source.empty()) metadata["source"] = Json::parse(facts.source, nullptr, false);
  return metadata;
}

Json Version1(const BuildRequest& request, const BuildFacts& facts, const Pieces& pieces,
              const ProvenanceOptions& options) {
  Json internal = Json::object();
  if (options.max) internal["buildConfig"] = Json::parse(facts.build_config, nullptr, false);
  internal["builderPlatform"] = request.builder_platform;
  Json metadata = {{"invocationId", request.ref},
                   {"startedOn", Time(request.started)},
                   {"finishedOn", Time(request.finished)},
                   {"buildkit_metadata", BuildkitMetadata(pieces, facts, options.max)}};
  if (pieces.hermetic) metadata["buildkit_hermetic"] = true;
  metadata["buildkit_completeness"] = {{"request", pieces.request_complete},
                                       {"resolvedDependencies", pieces.materials_complete}};
  if (options.reproducible) metadata["buildkit_reproducible"] = true;
  return {{"buildDefinition",
           {{"buildType", kBuildType1},
            {"externalParameters",
             {{"configSource", pieces.config_source}, {"request", Parameters(pieces)}}},
            {"internalParameters", internal},
            {"resolvedDependencies", pieces.dependencies}}},
          {"runDetails", {{"builder", {{"id", options.builder_id}}}, {"metadata", metadata}}}};
}

Json Version02(const BuildRequest& request, const BuildFacts& facts, const Pieces& pieces,
               const ProvenanceOptions& options) {
  Json config_source = pieces.config_source;
  config_source.erase("path");
  if (!pieces.entry_point.empty()) config_source["entryPoint"] = pieces.entry_point;
  Json metadata = {{"buildInvocationID", request.ref},
                   {"buildStartedOn", Time(request.started)},
                   {"buildFinishedOn", Time(request.finished)},
                   {"completeness",
                    {{"parameters", pieces.request_complete},
                     {"environment", true},
                     {"materials", pieces.materials_complete}}},
                   {"reproducible", options.reproducible},
                   {kMetadata02, BuildkitMetadata(pieces, facts, options.max)}};
  if (pieces.hermetic) metadata[kHermetic02] = true;
  Json predicate = {{"builder", {{"id", options.builder_id}}},
                    {"buildType", kBuildType02},
                    {"materials", pieces.dependencies},
                    {"invocation",
                     {{"configSource", config_source},
                      {"parameters", Parameters(pieces)},
                      {"environment", {{"platform", request.builder_platform}}}}}};
  if (options.max) predicate["buildConfig"] = Json::parse(facts.build_config, nullptr, false);
  predicate["metadata"] = metadata;
  return predicate;
}

}  // namespace

absl::StatusOr<std::string> ProvenancePredicate(const BuildRequest& request,
                                                const BuildFacts& facts,
                                                const ProvenanceOptions& options) {
  if (options.complete_materials && !(facts.unpinned.empty() && facts.locals.empty())) {
    std::vector<std::string> sources = facts.unpinned;
    for (const std::string& name : facts.locals) sources.push_back(absl::StrCat("local://", name));
    return absl::FailedPreconditionError(absl::StrCat(
        "provenance: materials are incomplete, not pinned: ", absl::StrJoin(sources, ", ")));
  }
  const Pieces pieces = Collect(request, facts, options.max);
  const Json predicate = options.v02 ? Version02(request, facts, pieces, options)
                                     : Version1(request, facts, pieces, options);
  return predicate.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<Attestation> MakeProvenance(const BuildRequest& request, const BuildFacts& facts,
                                           const ProvenanceOptions& options) {
  auto predicate = ProvenancePredicate(request, facts, options);
  if (!predicate.ok()) return predicate.status();
  Attestation attestation;
  attestation.predicate_type = options.predicate_type();
  attestation.content = *std::move(predicate);
  attestation.path = options.filename;
  attestation.metadata = {{"reason", "provenance"},
                          {"inline-only", options.inline_only ? "true" : "false"}};
  return attestation;
}

}  // namespace kiln::daemon
