#include "daemon/attest/provenance.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "daemon/attest/json_text.h"
#include "proto/go_json.h"
#include "proto/status_details.h"

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

std::string BuildkitMetadata(const Pieces& pieces, const BuildFacts& facts, bool max) {
  JsonText metadata;
  if (!pieces.vcs.empty()) metadata.Add("vcs", pieces.vcs);
  if (max && !facts.source.empty()) metadata.AddText("source", facts.source);
  return metadata.Take();
}

std::string Version1(const BuildRequest& request, const BuildFacts& facts, const Pieces& pieces,
                     const ProvenanceOptions& options) {
  JsonText internal;
  if (options.max) internal.AddText("buildConfig", facts.build_config);
  internal.Add("builderPlatform", request.builder_platform);
  JsonText metadata;
  metadata.Add("invocationId", request.ref)
      .Add("startedOn", Time(request.started))
      .Add("finishedOn", Time(request.finished))
      .AddText("buildkit_metadata", BuildkitMetadata(pieces, facts, options.max));
  if (pieces.hermetic) metadata.Add("buildkit_hermetic", true);
  metadata.Add("buildkit_completeness", {{"request", pieces.request_complete},
                                         {"resolvedDependencies", pieces.materials_complete}});
  if (options.reproducible) metadata.Add("buildkit_reproducible", true);
  JsonText definition, run;
  definition.Add("buildType", kBuildType1)
      .Add("externalParameters",
           {{"configSource", pieces.config_source}, {"request", Parameters(pieces)}})
      .AddText("internalParameters", internal.Take())
      .Add("resolvedDependencies", pieces.dependencies);
  run.Add("builder", {{"id", options.builder_id}}).AddText("metadata", metadata.Take());
  return JsonText()
      .AddText("buildDefinition", definition.Take())
      .AddText("runDetails", run.Take())
      .Take();
}

std::string Version02(const BuildRequest& request, const BuildFacts& facts, const Pieces& pieces,
                      const ProvenanceOptions& options) {
  Json config_source = pieces.config_source;
  config_source.erase("path");
  if (!pieces.entry_point.empty()) config_source["entryPoint"] = pieces.entry_point;
  JsonText metadata;
  metadata.Add("buildInvocationID", request.ref)
      .Add("buildStartedOn", Time(request.started))
      .Add("buildFinishedOn", Time(request.finished))
      .Add("completeness", {{"parameters", pieces.request_complete},
                            {"environment", true},
                            {"materials", pieces.materials_complete}})
      .Add("reproducible", options.reproducible)
      .AddText(kMetadata02, BuildkitMetadata(pieces, facts, options.max));
  if (pieces.hermetic) metadata.Add(kHermetic02, true);
  JsonText predicate;
  predicate.Add("builder", {{"id", options.builder_id}})
      .Add("buildType", kBuildType02)
      .Add("materials", pieces.dependencies)
      .Add("invocation", {{"configSource", config_source},
                          {"parameters", Parameters(pieces)},
                          {"environment", {{"platform", request.builder_platform}}}});
  if (options.max) predicate.AddText("buildConfig", facts.build_config);
  return predicate.AddText("metadata", metadata.Take()).Take();
}

absl::Status MaterialsIncomplete(const BuildFacts& facts) {
  std::vector<std::string> sources = facts.unpinned;
  GoJson json;
  json.BeginObject().Key("incomplete").BeginArray();
  for (const std::string& uri : facts.unpinned)
    json.BeginObject().Key("uri").String(uri).Key("reason").String("unpinned_source").EndObject();
  for (const std::string& name : facts.locals) {
    json.BeginObject().OptString("name", name).Key("reason").String("local_source").EndObject();
    sources.push_back(absl::StrCat("local://", name));
  }
  json.EndArray().EndObject();
  absl::Status status = absl::FailedPreconditionError(absl::StrCat(
      "provenance materials are incomplete, not pinned: ", absl::StrJoin(sources, ", ")));
  AddDetail(kMaterialsDetail, json.Take(), &status);
  return status;
}

}  // namespace

absl::StatusOr<std::string> ProvenancePredicate(const BuildRequest& request,
                                                const BuildFacts& facts,
                                                const ProvenanceOptions& options) {
  if (options.complete_materials && !(facts.unpinned.empty() && facts.locals.empty())) {
    return MaterialsIncomplete(facts);
  }
  const Pieces pieces = Collect(request, facts, options.max);
  return options.v02 ? Version02(request, facts, pieces, options)
                     : Version1(request, facts, pieces, options);
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
