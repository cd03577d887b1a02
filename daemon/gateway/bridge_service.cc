#include "daemon/gateway/bridge_service.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/gateway/build_container.h"
#include "daemon/gateway/capabilities.h"
#include "daemon/gateway/exec_stream.h"
#include "daemon/gateway/failed_solve.h"
#include "daemon/gateway/file_access.h"
#include "daemon/gateway/resolve_source_meta.h"
#include "daemon/rpc/status.h"
#include "daemon/rpc/unary.h"
#include "proto/buildkit/gateway.grpc.pb.h"
#include "proto/buildkit/worker.pb.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

namespace pbf = moby::buildkit::v1::frontend;

constexpr char kBuildIdHeader[] = "buildkit-controlapi-buildid";

absl::StatusOr<std::string> BuildId(const grpc::CallbackServerContext& context) {
  const auto range = context.client_metadata().equal_range(kBuildIdHeader);
  if (range.first == range.second || std::next(range.first) != range.second)
    return absl::InvalidArgumentError("no buildid found in context");
  return std::string(range.first->second.data(), range.first->second.size());
}

void FillStat(const fsutil::Stat& stat, ::fsutil::types::Stat* out) {
  out->set_path(stat.path);
  out->set_mode(stat.mode);
  out->set_uid(stat.uid);
  out->set_gid(stat.gid);
  out->set_size(stat.size);
  out->set_modtime(stat.mod_time_ns);
  out->set_linkname(stat.linkname);
  out->set_devmajor(stat.devmajor);
  out->set_devminor(stat.devminor);
}

void AddCaps(const std::vector<absl::string_view>& ids,
             google::protobuf::RepeatedPtrField<moby::buildkit::v1::apicaps::APICap>* caps) {
  for (absl::string_view id : ids) {
    auto* cap = caps->Add();
    cap->set_id(std::string(id));
    cap->set_enabled(true);
    cap->set_deprecated(id == "solve.inlinereturn");
  }
}

absl::Status RefuseUnsupported(const pbf::SolveRequest& request) {
  if (request.final())
    return absl::UnimplementedError("LLBBridge.Solve with Final: use LLBBridge.Return");
  return absl::OkStatus();
}

FrontendClient::Solve FromProto(const pbf::SolveRequest& request) {
  FrontendClient::Solve solve;
  solve.definition = request.definition().SerializeAsString();
  solve.evaluate = request.evaluate();
  solve.frontend = request.frontend();
  solve.frontend_opts.insert(request.frontendopt().begin(), request.frontendopt().end());
  for (const auto& [name, definition] : request.frontendinputs())
    solve.frontend_inputs[name] = definition.SerializeAsString();
  for (const auto& entry : request.cacheimports())
    solve.cache_imports.push_back({entry.type(), {entry.attrs().begin(), entry.attrs().end()}});
  solve.source_policies = SerializedPolicies(request.sourcepolicies());
  return solve;
}

absl::Status FillRef(BridgeClient& client, const std::string& id, pbf::Ref* ref) {
  ref->set_id(id);
  if (id.empty()) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const std::string definition, client.DefinitionOf(id));
  ref->mutable_def()->ParseFromString(definition);
  return absl::OkStatus();
}

absl::Status FillAttestations(const BridgeResult& result, BridgeClient& client, pbf::Result* out) {
  for (const auto& [platform, attestations] : result.attestations) {
    auto& list = (*out->mutable_attestations())[platform];
    for (const BridgeAttestation& each : attestations) {
      const Attestation& attestation = each.attestation;
      pbf::Attestation& proto = *list.add_attestation();
      proto.set_kind(attestation.kind == Attestation::Kind::kBundle ? pbf::Bundle : pbf::InToto);
      for (const auto& [key, value] : attestation.metadata)
        (*proto.mutable_metadata())[key] = value;
      KILN_RETURN_IF_ERROR(FillRef(client, each.ref, proto.mutable_ref()));  // Go needs it
      proto.set_path(attestation.path);
      proto.set_intotopredicatetype(attestation.predicate_type);
      for (const Attestation::Subject& subject : attestation.subjects) {
        pbf::InTotoSubject& about = *proto.add_intotosubjects();
        about.set_kind(subject.self ? pbf::Self : pbf::Raw);
        about.set_name(subject.name);
        for (const Digest& digest : subject.digests) about.add_digest(digest.ToString());
      }
    }
  }
  return absl::OkStatus();
}

// The result in whichever form the client reads.
absl::Status Fill(const pbf::SolveRequest& request, const BridgeResult& result,
                  BridgeClient& client, pbf::SolveResponse* response) {
  if (!request.allowresultreturn()) {
    if (result.is_map) return absl::InvalidArgumentError("solve did not return a default result");
    response->set_ref(result.ref);
    return absl::OkStatus();
  }
  pbf::Result& out = *response->mutable_result();
  for (const auto& [key, value] : result.metadata) (*out.mutable_metadata())[key] = value;
  KILN_RETURN_IF_ERROR(FillAttestations(result, client, &out));
  if (!request.allowresultarrayref()) {
    if (!result.is_map) out.set_refdeprecated(result.ref);
    for (const auto& [platform, id] : result.refs)
      (*out.mutable_refsdeprecated()->mutable_refs())[platform] = id;
    return absl::OkStatus();
  }
  if (!result.is_map) return FillRef(client, result.ref, out.mutable_ref());
  out.mutable_refs();
  for (const auto& [platform, id] : result.refs)
    KILN_RETURN_IF_ERROR(FillRef(client, id, &(*out.mutable_refs()->mutable_refs())[platform]));
  return absl::OkStatus();
}

absl::StatusOr<BridgeAttestation> ToAttestation(const pbf::Attestation& proto) {
  BridgeAttestation out;
  out.ref = proto.ref().id();
  Attestation& attestation = out.attestation;
  if (proto.kind() == pbf::Bundle) attestation.kind = Attestation::Kind::kBundle;
  for (const auto& [key, value] : proto.metadata()) attestation.metadata[key] = value;
  attestation.path = proto.path();
  attestation.predicate_type = proto.intotopredicatetype();
  for (const pbf::InTotoSubject& each : proto.intotosubjects()) {
    Attestation::Subject subject;
    subject.self = each.kind() == pbf::Self;
    subject.name = each.name();
    for (const std::string& text : each.digest()) {
      KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(text));
      subject.digests.push_back(digest);
    }
    attestation.subjects.push_back(std::move(subject));
  }
  return out;
}

absl::StatusOr<BridgeResult> FromProto(const pbf::Result& proto) {
  BridgeResult result;
  switch (proto.result_case()) {
    case pbf::Result::kRefDeprecated:
      result.ref = proto.refdeprecated();
      break;
    case pbf::Result::kRefsDeprecated:
      result.is_map = true;
      for (const auto& [key, id] : proto.refsdeprecated().refs()) result.refs[key] = id;
      break;
    case pbf::Result::kRef:
      result.ref = proto.ref().id();
      break;
    case pbf::Result::kRefs:
      result.is_map = true;
      for (const auto& [key, ref] : proto.refs().refs()) result.refs[key] = ref.id();
      break;
    case pbf::Result::RESULT_NOT_SET:
      break;  // an empty result
  }
  for (const auto& [key, value] : proto.metadata()) result.metadata[key] = value;
  for (const auto& [platform, list] : proto.attestations()) {
    for (const pbf::Attestation& each : list.attestation()) {
      KILN_ASSIGN_OR_RETURN(BridgeAttestation attestation, ToAttestation(each));
      result.attestations[platform].push_back(std::move(attestation));
    }
  }
  return result;
}

absl::StatusOr<solver::Warning> ToWarning(const pbf::WarnRequest& request) {
  solver::Warning warning;
  warning.level = request.level() == 0 ? 1 : static_cast<int>(request.level());
  warning.short_text = request.short_();
  warning.detail.assign(request.detail().begin(), request.detail().end());
  warning.url = request.url();
  if (request.has_info()) warning.source_info = request.info().SerializeAsString();
  for (const pb::Range& range : request.ranges()) {
    pb::Range whole = range;  // clients need both ends present
    whole.mutable_start();
    whole.mutable_end();
    warning.ranges.push_back(whole.SerializeAsString());
  }
  return warning;
}

// "os/arch[/variant]"; "" for none.
absl::Status ResolveImage(BridgeClient& client, const pbf::ResolveImageConfigRequest& request,
                          pbf::ResolveImageConfigResponse* response) {
  FrontendClient::ImageRequest wanted;
  wanted.reference = request.ref();
  wanted.platform = PlatformText(request.platform());
  wanted.resolve_mode = request.resolvemode();
  wanted.log_name = request.logname();
  wanted.oci_layout = request.resolvertype() == 1;
  wanted.store_id = request.storeid();
  wanted.store_session_id = request.sessionid();
  wanted.source_policies = SerializedPolicies(request.sourcepolicies());
  KILN_ASSIGN_OR_RETURN(FrontendClient::Image image, client.ResolveImage(wanted));
  response->set_digest(image.digest.ToString());
  response->set_config(std::move(image.config));
  response->set_ref(std::move(image.reference));
  return absl::OkStatus();
}

// Sources with an image behind them are asked as images, all others by their kind.
class BridgeService : public pbf::LLBBridge::CallbackService {
 public:
  explicit BridgeService(BridgeServiceDeps deps) : deps_(std::move(deps)) {}

 private:
  using Context = grpc::CallbackServerContext;
  using Work = absl::AnyInvocable<absl::Status(BridgeClient&)>;

  using Finder = std::function<absl::StatusOr<std::shared_ptr<Bridge>>(const CancelToken&)>;

  // How the bridge that a call is for will be found.
  absl::StatusOr<Finder> FinderFor(const Context& context) const {
    if (deps_.bridge != nullptr)
      return [bridge = deps_.bridge](const CancelToken&) { return bridge; };
    KILN_ASSIGN_OR_RETURN(std::string id, BuildId(context));
    return [finder = deps_.finder, id = std::move(id)](const CancelToken& cancel) {
      return finder->FindBridge(id, cancel);
    };
  }

  // Finds the build and runs `work` on it. `method` goes before what was wrong with the routing.
  grpc::ServerUnaryReactor* Run(Context* context, const char* method, Work work) {
    absl::StatusOr<Finder> find = FinderFor(*context);
    if (!find.ok())
      return AnswerNow(context, Annotate(find.status(), absl::StrCat("forwarding ", method)));
    return RunUnary(deps_.pool, [this, find = *std::move(find), method,
                                 work = std::move(work)](const CancelToken& cancel) mutable {
      auto bridge = find(cancel);
      if (!bridge.ok()) return Annotate(bridge.status(), absl::StrCat("forwarding ", method));
      BridgeClient client(deps_.parts, *std::move(bridge), cancel);
      return TellFailedStep(work(client), *client.bridge(), deps_.parts->refs);
    });
  }

  // Run for what evaluates something: that it failed is told as of a build.
  grpc::ServerUnaryReactor* RunBuild(Context* context, const char* method, Work work) {
    return Run(context, method, [work = std::move(work)](BridgeClient& client) mutable {
      return AsBuildFailure(work(client));
    });
  }

  grpc::ServerUnaryReactor* Ping(Context* context, const pbf::PingRequest*,
                                 pbf::PongResponse* response) override {
    return Run(context, "Ping", [this, response](BridgeClient&) {
      AddCaps(FrontendCapabilities(), response->mutable_frontendapicaps());
      AddCaps(LlbCapabilitiesOffered(), response->mutable_llbcaps());
      moby::buildkit::v1::types::WorkerRecord worker;
      worker.ParseFromString(deps_.parts->worker());
      auto& told = *response->add_workers();
      told.set_id(worker.id());
      told.mutable_labels()->swap(*worker.mutable_labels());
      told.mutable_platforms()->Swap(worker.mutable_platforms());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Solve(Context* context, const pbf::SolveRequest* request,
                                  pbf::SolveResponse* response) override {
    return RunBuild(context, "Solve", [request, response](BridgeClient& client) -> absl::Status {
      KILN_RETURN_IF_ERROR(RefuseUnsupported(*request));
      KILN_ASSIGN_OR_RETURN(const BridgeResult result, client.SolveGraph(FromProto(*request)));
      return Fill(*request, result, client, response);
    });
  }

  grpc::ServerUnaryReactor* Evaluate(Context* context, const pbf::EvaluateRequest* request,
                                     pbf::EvaluateResponse*) override {
    return RunBuild(context, "Evaluate", [request](BridgeClient& client) {
      return client.bridge()->Evaluate(request->ref(), client.cancel()).status();
    });
  }

  grpc::ServerUnaryReactor* Return(Context* context, const pbf::ReturnRequest* request,
                                   pbf::ReturnResponse*) override {
    return Run(context, "Return", [request](BridgeClient& client) -> absl::Status {
      if (request->has_result() == request->has_error())
        return absl::InvalidArgumentError("gateway return must be either result or err");
      if (!request->has_error()) {
        KILN_ASSIGN_OR_RETURN(BridgeResult result, FromProto(request->result()));
        return client.bridge()->Return(std::move(result));
      }
      absl::Status error = ParseStatus(request->error().SerializeAsString());
      if (error.ok()) error = absl::UnknownError("frontend failed without saying why");
      return client.bridge()->Return(std::move(error));
    });
  }

  grpc::ServerUnaryReactor* ReadFile(Context* context, const pbf::ReadFileRequest* request,
                                     pbf::ReadFileResponse* response) override {
    return RunBuild(context, "ReadFile", [request, response](BridgeClient& client) -> absl::Status {
      const bool part = request->has_range();
      KILN_ASSIGN_OR_RETURN(
          *response->mutable_data(),
          client.ReadFile(request->ref(), request->filepath(), part ? request->range().offset() : 0,
                          part ? request->range().length() : -1));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* ReadDir(Context* context, const pbf::ReadDirRequest* request,
                                    pbf::ReadDirResponse* response) override {
    return RunBuild(context, "ReadDir", [request, response](BridgeClient& client) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const auto stats, client.ReadDir(request->ref(), request->dirpath(),
                                                             request->includepattern()));
      for (const fsutil::Stat& stat : stats) FillStat(stat, response->add_entries());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* StatFile(Context* context, const pbf::StatFileRequest* request,
                                     pbf::StatFileResponse* response) override {
    return RunBuild(context, "StatFile", [request, response](BridgeClient& client) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const auto stat, client.StatFile(request->ref(), request->path()));
      FillStat(stat, response->mutable_stat());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Inputs(Context* context, const pbf::InputsRequest*,
                                   pbf::InputsResponse* response) override {
    return Run(context, "Inputs", [response](BridgeClient& client) {
      for (const auto& [name, definition] : client.inputs())
        (*response->mutable_definitions())[name].ParseFromString(definition);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Warn(Context* context, const pbf::WarnRequest* request,
                                 pbf::WarnResponse*) override {
    return Run(context, "Warn", [request](BridgeClient& client) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const solver::Warning warning, ToWarning(*request));
      const absl::StatusOr<Digest> vertex = Digest::Parse(request->digest());
      if (!vertex.ok()) return absl::OkStatus();  // of no vertex: nobody would show it
      return client.Warn(*vertex, warning);
    });
  }

  grpc::ServerUnaryReactor* ResolveSourceMeta(Context* context,
                                              const pbf::ResolveSourceMetaRequest* request,
                                              pbf::ResolveSourceMetaResponse* response) override {
    return RunBuild(context, "ResolveSourceMeta",
                    [request, response](BridgeClient& client) -> absl::Status {
                      return daemon::ResolveSourceMeta(client, *request, response);
                    });
  }

  grpc::ServerUnaryReactor* ResolveImageConfig(Context* context,
                                               const pbf::ResolveImageConfigRequest* request,
                                               pbf::ResolveImageConfigResponse* response) override {
    return RunBuild(context, "ResolveImageConfig",
                    [request, response](BridgeClient& client) -> absl::Status {
                      return ResolveImage(client, *request, response);
                    });
  }

  grpc::ServerUnaryReactor* NewContainer(Context* context, const pbf::NewContainerRequest* request,
                                         pbf::NewContainerResponse*) override {
    return Run(context, "NewContainer", [request](BridgeClient& client) {
      return client.NewContainer(request->SerializeAsString());
    });
  }

  grpc::ServerUnaryReactor* ReleaseContainer(Context* context,
                                             const pbf::ReleaseContainerRequest* request,
                                             pbf::ReleaseContainerResponse*) override {
    return Run(context, "ReleaseContainer", [request](BridgeClient& client) {
      return client.bridge()->containers().Release(request->containerid());
    });
  }

  // Runs `read` on the files of a container's mount.
  template <typename Request>
  grpc::ServerUnaryReactor* ReadContainer(Context* context, const char* method,
                                          const Request* request,
                                          std::function<absl::Status(const store::Layers&)> read) {
    return Run(
        context, method, [request, read = std::move(read)](BridgeClient& client) -> absl::Status {
          KILN_ASSIGN_OR_RETURN(auto container, client.bridge()->containers().Find(request->ref()));
          KILN_ASSIGN_OR_RETURN(auto use, BuildContainer::Use::Of(std::move(container)));
          if (request->mountindex() < 0)
            return absl::InvalidArgumentError(absl::StrCat("no mount ", request->mountindex()));
          KILN_ASSIGN_OR_RETURN(const store::Layers files,
                                use->container().Files(request->mountindex()));
          return read(files);
        });
  }

  grpc::ServerUnaryReactor* ReadFileContainer(Context* context, const pbf::ReadFileRequest* request,
                                              pbf::ReadFileResponse* response) override {
    return ReadContainer(
        context, "ReadFileContainer", request,
        [request, response](const store::Layers& files) -> absl::Status {
          const bool part = request->has_range();
          KILN_ASSIGN_OR_RETURN(
              *response->mutable_data(),
              ReadTreeFile(files, request->filepath(), part ? request->range().offset() : 0,
                           part ? request->range().length() : -1));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* ReadDirContainer(Context* context, const pbf::ReadDirRequest* request,
                                             pbf::ReadDirResponse* response) override {
    return ReadContainer(context, "ReadDirContainer", request,
                         [request, response](const store::Layers& files) -> absl::Status {
                           KILN_ASSIGN_OR_RETURN(
                               const auto stats,
                               ReadTreeDir(files, request->dirpath(), request->includepattern()));
                           for (const fsutil::Stat& stat : stats)
                             FillStat(stat, response->add_entries());
                           return absl::OkStatus();
                         });
  }

  grpc::ServerUnaryReactor* StatFileContainer(Context* context, const pbf::StatFileRequest* request,
                                              pbf::StatFileResponse* response) override {
    return ReadContainer(context, "StatFileContainer", request,
                         [request, response](const store::Layers& files) -> absl::Status {
                           KILN_ASSIGN_OR_RETURN(const auto stat,
                                                 StatMountFile(files, request->path()));
                           FillStat(stat, response->mutable_stat());
                           return absl::OkStatus();
                         });
  }

  grpc::ServerBidiReactor<pbf::ExecMessage, pbf::ExecMessage>* ExecProcess(
      Context* context) override {
    absl::StatusOr<Finder> find = FinderFor(*context);
    if (find.ok()) return OpenExecStream(deps_.pool, *std::move(find));
    return OpenExecStream(deps_.pool, [why = find.status()](const CancelToken&) {
      return absl::StatusOr<std::shared_ptr<Bridge>>(why);
    });
  }

  const BridgeServiceDeps deps_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeBridgeService(BridgeServiceDeps deps) {
  return std::make_unique<BridgeService>(std::move(deps));
}

}  // namespace kiln::daemon
