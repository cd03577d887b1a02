#include "daemon/control/solve.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/control/build_provenance.h"
#include "daemon/control/run_exports.h"
#include "daemon/frontend/sbom_attach.h"
#include "daemon/gateway/resolve_source_meta.h"
#include "daemon/image/platform.h"
#include "daemon/ops/ref_result.h"
#include "daemon/policy/grant_devices.h"
#include "daemon/rpc/status.h"
#include "daemon/session/session_exporter.h"
#include "proto/buildkit/control.pb.h"
#include "proto/buildkit/gateway.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using moby::buildkit::v1::SolveRequest;
using moby::buildkit::v1::SolveResponse;
using Attrs = std::map<std::string, std::string>;

constexpr char kPlatformsKey[] = "refs.platforms";
constexpr char kEpochOption[] = "build-arg:SOURCE_DATE_EPOCH";
constexpr char kEpochAttr[] = "source-date-epoch";

template <typename Map>
Attrs ToMap(const Map& proto) {
  return Attrs(proto.begin(), proto.end());
}

bool ClientDrives(const SolveRequest& request) {
  return !request.has_definition() && request.frontend().empty();
}

// Features by name: nothing is dropped silently.
absl::Status RefuseUnsupported(const SolveRequest& request) {
  const auto refuse = [](absl::string_view what) {
    return absl::UnimplementedError(absl::StrCat(what, " is not supported by this daemon yet"));
  };
  if (request.ref().empty()) return absl::InvalidArgumentError("solve without a ref");
  if (!request.frontend().empty() && request.definition().def_size() > 0)
    return absl::InvalidArgumentError("cannot solve with both Definition and Frontend specified");
  if (request.proxynetwork()) return refuse("proxy network mode");
  const int64_t version = request.compatibilityversion();
  if (version != 0 && version != 10 && version != 20 && version != 30)
    return absl::InvalidArgumentError(absl::StrCat("unsupported compatibility-version ", version));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Entitlements(const SolveDeps& deps,
                                                      const SolveRequest& request) {
  std::vector<std::string> granted;
  for (const std::string& wanted : request.entitlements()) {
    // "device=NAME" grants one device of those that "device" is about.
    if (!deps.entitlements.contains(wanted.substr(0, wanted.find('='))))
      return absl::PermissionDeniedError(absl::StrCat(
          "granting entitlement ", wanted, " is not allowed by build daemon configuration"));
    granted.push_back(wanted);
  }
  return granted;
}

// New clients fill the list and the old pair of fields with the same exporter: the list wins.
std::vector<std::pair<std::string, Attrs>> WantedExporters(const SolveRequest& request) {
  std::vector<std::pair<std::string, Attrs>> wanted;
  for (const auto& exporter : request.exporters())
    wanted.emplace_back(exporter.type(), ToMap(exporter.attrs()));
  if (wanted.empty() && !request.exporterdeprecated().empty())
    wanted.emplace_back(request.exporterdeprecated(), ToMap(request.exporterattrsdeprecated()));
  const auto epoch = request.frontendattrs().find(kEpochOption);
  int64_t seconds = 0;
  // What is no number is for the frontend, whose result then says the time.
  if (epoch != request.frontendattrs().end() &&
      (epoch->second.empty() || absl::SimpleAtoi(epoch->second, &seconds))) {
    for (auto& [type, attrs] : wanted) attrs.try_emplace(kEpochAttr, epoch->second);
  }
  return wanted;
}

// Old clients name references only, with one map of attributes for the export.
std::vector<CacheRequest> CacheExports(const SolveRequest& request) {
  std::vector<CacheRequest> exports;
  for (const auto& entry : request.cache().exports())
    exports.push_back({entry.type(), ToMap(entry.attrs())});
  if (exports.empty() && !request.cache().exportrefdeprecated().empty()) {
    exports.push_back({"registry", ToMap(request.cache().exportattrsdeprecated())});
    exports.back().attrs["ref"] = request.cache().exportrefdeprecated();
  }
  return exports;
}

std::vector<CacheRequest> CacheImports(const SolveRequest& request) {
  std::vector<CacheRequest> imports;
  for (const auto& entry : request.cache().imports())
    imports.push_back({entry.type(), ToMap(entry.attrs())});
  for (const std::string& ref : request.cache().importrefsdeprecated()) {
    const CacheRequest import = {"registry", {{"ref", ref}}};
    if (std::find(imports.begin(), imports.end(), import) == imports.end())
      imports.push_back(import);
  }
  return imports;
}

absl::StatusOr<std::vector<ExportSource::Platform>> Platforms(const Attrs& metadata) {
  std::vector<ExportSource::Platform> platforms;
  const auto found = metadata.find(kPlatformsKey);
  if (found == metadata.end() || found->second.empty()) return platforms;
  const nlohmann::json json = nlohmann::json::parse(found->second, nullptr, false);
  const auto bad = [](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("result metadata ", kPlatformsKey, ": ", why));
  };
  if (!json.is_object() || !json.contains("Platforms") || !json["Platforms"].is_array())
    return bad("failed to parse platforms passed to exporter");
  for (const auto& item : json["Platforms"]) {
    if (!item.is_object() || !item.value("ID", nlohmann::json("")).is_string())
      return bad("invalid platform value");
    ExportSource::Platform platform;
    platform.id = item.value("ID", "");
    if (platform.id.empty()) return bad("invalid empty platform key for exporter");
    if (item.contains("Platform")) platform.json = item["Platform"].dump();
    platforms.push_back(std::move(platform));
  }
  if (platforms.empty()) return bad("invalid empty platforms index for exporter");
  return platforms;
}

// One solve from the created build to its answer.
class SolveRun {
 public:
  SolveRun(const SolveDeps& deps, const SolveRequest& request) : deps_(deps), request_(request) {}

  absl::Status Prepare() {
    KILN_RETURN_IF_ERROR(RefuseUnsupported(request_));
    KILN_ASSIGN_OR_RETURN(auto entitlements, Entitlements(deps_, request_));
    KILN_RETURN_IF_ERROR(TakeDevices(&entitlements));
    build_.exporters = WantedExporters(request_);
    for (const auto& [type, attrs] : build_.exporters) {
      KILN_ASSIGN_OR_RETURN(auto exporter, deps_.exporters->Create(type, attrs));
      exporters_.push_back(std::move(exporter));
    }
    solver::JobOptions options;
    options.id = request_.ref();
    if (!request_.session().empty()) options.session_ids = {request_.session()};
    options.entitlements = std::move(entitlements);
    session_ids_ = options.session_ids;
    KILN_ASSIGN_OR_RETURN(caches_, deps_.caches->Open(request_.ref(), CacheExports(request_),
                                                      CacheImports(request_), session_ids_));
    options.imports = caches_->imports();
    KILN_ASSIGN_OR_RETURN(build_.job, deps_.solver->NewJob(options));
    build_.ref = request_.ref();
    build_.frontend = request_.frontend();
    build_.frontend_attrs = ToMap(request_.frontendattrs());
    build_.created_at = absl::Now();
    build_.internal = request_.internal();
    build_.warnings = std::make_shared<WarningLog>();
    build_.cancel = std::make_shared<CancelSource>();
    KILN_ASSIGN_OR_RETURN(build_.bridge, MakeBridge(options));
    return absl::OkStatus();
  }

  const Build& build() const { return build_; }
  BuildCaches& caches() { return *caches_; }
  // What still fetches has no reader any more.
  void EndImports() { caches_.reset(); }

  // Builds and exports.
  absl::Status Run(const CancelToken& cancel, BuildEnd* end) {
    if (caches_->imports() != nullptr) caches_->Start(build_.job);
    KILN_ASSIGN_OR_RETURN(BridgeResult result, Answer(cancel));
    KILN_RETURN_IF_ERROR(AddSbom(cancel, &result));
    KILN_ASSIGN_OR_RETURN(ExportSource source, Evaluate(result, cancel));
    KILN_ASSIGN_OR_RETURN(BuildProvenance provenance,
                          BuildProvenance::Of(build_, result, deps_.pins));
    KILN_RETURN_IF_ERROR(provenance.Attach(&source));
    end->provenance = std::make_shared<const BuildProvenance>(std::move(provenance));
    KILN_RETURN_IF_ERROR(AddSessionExporters(source, cancel));
    end->result_metadata = result.metadata;
    for (const auto& [key, value] : result.metadata)
      if (absl::StartsWith(key, "frontend.")) end->exporter_response[key] = value;
    ExportContext context;
    context.session_id = request_.session();
    context.sessions = deps_.sessions;
    context.cancel = cancel;
    if (request_.compatibilityversion() != 0)
      context.compatibility_version = static_cast<int>(request_.compatibilityversion());
    if (caches_->exports_inline()) {
      context.inline_cache = [&](const std::string& platform_id,
                                 const std::vector<Digest>& diff_ids) {
        return InlineCache(result, platform_id, diff_ids, cancel);
      };
    }
    KILN_ASSIGN_OR_RETURN(ExportsAnswer made, RunExports(*build_.job, exporters_, source, context));
    end->exporter_response.insert(made.response.begin(), made.response.end());
    end->roots = std::move(made.roots);
    end->holds = std::move(made.holds);
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> definitions, Definitions(result));
    KILN_ASSIGN_OR_RETURN(const Attrs cached,
                          caches_->Export(*build_.job, definitions, session_ids_, cancel));
    end->exporter_response.insert(cached.begin(), cached.end());
    if (!request_.enablesessionexporter()) return absl::OkStatus();
    KILN_ASSIGN_OR_RETURN(const SessionPtr session,
                          deps_.sessions->Get(request_.session(), cancel));
    return FinalizeSessionExport(*session, end->exporter_response, cancel);
  }

 private:
  // The solver lets steps have devices by their qualified names, and those that it is asked for are
  // given these names before.
  absl::Status TakeDevices(std::vector<std::string>* entitlements) {
    if (deps_.devices == nullptr) return absl::OkStatus();
    KILN_ASSIGN_OR_RETURN(const DeviceGrants grants, DeviceGrants::Parse(*entitlements));
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> names, grants.Names(*deps_.devices));
    for (const std::string& name : names) entitlements->push_back(absl::StrCat("device=", name));
    grant_devices_ = [grants, registry = deps_.devices](std::string definition) {
      return GrantDevices(std::move(definition), grants, *registry);
    };
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<Bridge>> MakeBridge(const solver::JobOptions& job) {
    BridgeOptions options;
    options.job = build_.job;
    options.opts = build_.frontend_attrs;
    for (const auto& [name, definition] : request_.frontendinputs())
      options.inputs[name] = definition.SerializeAsString();
    options.session_ids = job.session_ids;
    options.entitlements = job.entitlements;
    options.grant_devices = grant_devices_;
    for (CacheRequest& import : CacheImports(request_))
      options.cache_imports.emplace(std::move(import.type), std::move(import.attrs));
    options.warn = [warnings = build_.warnings](const Digest& vertex, solver::Warning warning) {
      warnings->Add({vertex, std::move(warning)});
    };
    KILN_ASSIGN_OR_RETURN(options.judge, MakeJudge(options));
    return std::make_shared<Bridge>(std::move(options));
  }

  // Null: every source is welcome.
  absl::StatusOr<std::shared_ptr<const SourceJudge>> MakeJudge(const BridgeOptions& bridge) {
    std::vector<std::string> policies;
    if (request_.sourcepolicy().rules_size() > 0)
      policies.push_back(request_.sourcepolicy().SerializeAsString());
    if (request_.sourcepolicysession().empty()) return SourceJudge::With(nullptr, policies);
    auto verifier = std::make_shared<SourceJudge::Verifier>();
    verifier->session_id = request_.sourcepolicysession();
    verifier->sessions = deps_.sessions;
    // What the verifier wants to know is resolved without asking it.
    verifier->resolve = [parts = deps_.bridge_parts, bridge](
                            const std::string& bytes,
                            const CancelToken& cancel) -> absl::StatusOr<std::string> {
      moby::buildkit::v1::frontend::ResolveSourceMetaRequest request;
      moby::buildkit::v1::frontend::ResolveSourceMetaResponse response;
      request.ParseFromString(bytes);
      BridgeClient client(parts, std::make_shared<Bridge>(bridge), cancel);
      KILN_RETURN_IF_ERROR(ResolveSourceMeta(client, request, &response));
      return response.SerializeAsString();
    };
    return SourceJudge::Create(std::move(policies), std::move(verifier));
  }

  // Of every tree of the result, each once.
  absl::StatusOr<std::vector<std::string>> Definitions(const BridgeResult& result) {
    std::vector<std::string> ids;
    if (!result.ref.empty()) ids.push_back(result.ref);
    for (const auto& [platform, id] : result.refs)
      if (!id.empty() && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
    std::vector<std::string> definitions;
    for (const std::string& id : ids) {
      KILN_ASSIGN_OR_RETURN(std::string definition, build_.bridge->SolvedDefinitionOf(id));
      definitions.push_back(std::move(definition));
    }
    return definitions;
  }

  absl::StatusOr<std::string> InlineCache(const BridgeResult& result,
                                          const std::string& platform_id,
                                          const std::vector<Digest>& diff_ids,
                                          const CancelToken& cancel) {
    const auto platform = result.refs.find(platform_id);
    const std::string& id = platform == result.refs.end() ? result.ref : platform->second;
    if (id.empty()) return std::string();
    KILN_ASSIGN_OR_RETURN(const std::string definition, build_.bridge->SolvedDefinitionOf(id));
    store::LayerFormat format;
    for (const auto& exporter : exporters_) {
      if (exporter->layer_format() == nullptr) continue;
      format = *exporter->layer_format();
      break;
    }
    return caches_->InlineCache(*build_.job, definition, diff_ids, format, cancel);
  }

  // What the frontend returned; a definition in the request is an answer by itself.
  absl::StatusOr<BridgeResult> Answer(const CancelToken& cancel) {
    if (ClientDrives(request_)) return build_.bridge->WaitForReturn(cancel);
    if (!request_.frontend().empty())
      return RunFrontend(*deps_.bridge_parts, *build_.bridge, request_.frontend(),
                         build_.bridge->options().opts, build_.bridge->options().inputs, cancel);
    BridgeResult result;
    KILN_ASSIGN_OR_RETURN(result.ref,
                          build_.bridge->AddDefinition(request_.definition().SerializeAsString(),
                                                       request_.definition().def_size() > 0));
    return result;
  }

  absl::Status AddSbom(const CancelToken& cancel, BridgeResult* result) {
    KILN_ASSIGN_OR_RETURN(const auto platforms, Platforms(result->metadata));
    std::vector<std::string> ids;
    for (const ExportSource::Platform& platform : platforms) ids.push_back(platform.id);
    BridgeClient client(deps_.bridge_parts, build_.bridge, cancel);
    return AttachSbom(client, build_.frontend_attrs, ids, result);
  }

  // The client chooses further exporters when it knows what was built.
  absl::Status AddSessionExporters(const ExportSource& source, const CancelToken& cancel) {
    if (!request_.enablesessionexporter()) return absl::OkStatus();
    KILN_ASSIGN_OR_RETURN(const SessionPtr session,
                          deps_.sessions->Get(request_.session(), cancel));
    std::vector<std::string> refs;
    if (source.ref != nullptr) refs.push_back(source.ref->id());
    for (const auto& [platform, ref] : source.refs)
      if (ref != nullptr) refs.push_back(ref->id());
    KILN_ASSIGN_OR_RETURN(const std::vector<SessionExporter> wanted,
                          FindSessionExporters(*session, source.metadata, refs, cancel));
    for (const SessionExporter& each : wanted) {
      KILN_ASSIGN_OR_RETURN(auto exporter, deps_.exporters->Create(each.type, each.attrs));
      exporters_.push_back(std::move(exporter));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ExportSource> Evaluate(const BridgeResult& result, const CancelToken& cancel) {
    ExportSource source;
    source.is_map = result.is_map;
    source.metadata = result.metadata;
    KILN_ASSIGN_OR_RETURN(source.platforms, Platforms(result.metadata));
    KILN_ASSIGN_OR_RETURN(const auto single, build_.bridge->Evaluate(result.ref, cancel));
    source.ref = RefOf(single);
    for (const auto& [platform, id] : result.refs) {
      KILN_ASSIGN_OR_RETURN(const auto tree, build_.bridge->Evaluate(id, cancel));
      source.refs[platform] = RefOf(tree);
    }
    for (const auto& [platform, attestations] : result.attestations) {
      for (const BridgeAttestation& each : attestations) {
        KILN_ASSIGN_OR_RETURN(const auto tree, build_.bridge->Evaluate(each.ref, cancel));
        source.attestations[platform].push_back(each.attestation);
        source.attestations[platform].back().tree = RefOf(tree);
      }
    }
    return source;
  }

  const SolveDeps& deps_;
  const SolveRequest& request_;
  std::vector<std::string> session_ids_;
  std::function<absl::StatusOr<std::string>(std::string)> grant_devices_;
  std::vector<std::unique_ptr<Exporter>> exporters_;
  std::unique_ptr<BuildCaches> caches_;
  Build build_;
};

}  // namespace

absl::Status Solve(const SolveDeps& deps, const SolveRequest& request, const CancelToken& cancel,
                   SolveResponse* response) {
  SolveRun run(deps, request);
  BuildPtr build;
  absl::Status begun = run.Prepare();
  if (begun.ok()) {
    build = std::make_shared<const Build>(run.build());
    begun = deps.builds->Add(build);
  }
  if (!begun.ok()) {
    deps.builds->Refused(request.ref());
    return begun;
  }
  deps.history->Started(build);

  // Two may end it: the client's cancel and the daemon's own.
  const CancelToken token = build->cancel->token();
  BuildEnd end;
  {
    const CancelRegistration client_left =
        cancel.OnCancel([build, cancel] { build->cancel->Cancel(cancel.status()); });
    const CancelRegistration stop = token.OnCancel([&run, build, token] {
      run.caches().Cancel(token.status());
      build->job->Cancel(token.status());
    });
    end.status = AsBuildFailure(run.Run(token, &end));
  }
  run.EndImports();
  end.completed_at = absl::Now();
  build->bridge->Close(absl::NotFoundError(absl::StrCat("no such job ", build->ref)));
  build->job->progress().End();
  // The log stays readable, the trees are let go: who was told the end may prune them.
  build->job->Release(absl::CancelledError("build is done"));
  deps.history->Ended(build, end);
  deps.builds->End(build, end);
  deps.timers->PostAfter(deps.keep_ended, [builds = deps.builds, build] { builds->Remove(build); });
  for (const auto& [key, value] : end.exporter_response)
    (*response->mutable_exporterresponse())[key] = value;
  const absl::Status outcome = end.status;
  deps.history->Keep(build, std::move(end));
  return outcome;
}

}  // namespace kiln::daemon
