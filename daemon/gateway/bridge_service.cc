#include "daemon/gateway/bridge_service.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/gateway/capabilities.h"
#include "daemon/gateway/file_access.h"
#include "daemon/rpc/status.h"
#include "daemon/rpc/unary.h"
#include "proto/buildkit/gateway.grpc.pb.h"
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
  if (!request.frontend().empty()) {
    if (request.definition().def_size() > 0)
      return absl::InvalidArgumentError("cannot solve with both Definition and Frontend specified");
    if (request.frontend() == "dockerfile.v0" || request.frontend() == "gateway.v0")
      return absl::UnimplementedError(
          absl::StrCat("frontend ", request.frontend(), " is not supported by this daemon yet"));
    return absl::InvalidArgumentError(absl::StrCat("invalid frontend: ", request.frontend()));
  }
  if (request.sourcepolicies_size() > 0)
    return absl::UnimplementedError("source policies are not supported by this daemon yet");
  if (request.final())
    return absl::UnimplementedError("LLBBridge.Solve with Final: use LLBBridge.Return");
  return absl::OkStatus();
}

// The ref id and definition of a lazy ref, in whichever form the client reads.
absl::Status FillRef(const pbf::SolveRequest& request, std::string id,
                     pbf::SolveResponse* response) {
  if (!request.allowresultreturn()) {
    response->set_ref(std::move(id));
    return absl::OkStatus();
  }
  if (!request.allowresultarrayref()) {
    response->mutable_result()->set_refdeprecated(std::move(id));
    return absl::OkStatus();
  }
  pbf::Ref* ref = response->mutable_result()->mutable_ref();
  if (!id.empty()) *ref->mutable_def() = request.definition();
  ref->set_id(std::move(id));
  return absl::OkStatus();
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
  if (proto.attestations_size() > 0)
    return absl::UnimplementedError("attestations are not supported by this daemon yet");
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

class BridgeService : public pbf::LLBBridge::CallbackService {
 public:
  explicit BridgeService(BridgeServiceDeps deps) : deps_(std::move(deps)) {}

 private:
  using Context = grpc::CallbackServerContext;
  using Work = absl::AnyInvocable<absl::Status(Bridge&, const CancelToken&)>;

  // Finds the build and runs `work` on it. `method` goes before what was wrong with the routing.
  grpc::ServerUnaryReactor* Run(Context* context, const char* method, Work work) {
    absl::StatusOr<std::string> id = BuildId(*context);
    if (!id.ok())
      return AnswerNow(context, Annotate(id.status(), absl::StrCat("forwarding ", method)));
    return RunUnary(deps_.pool, [this, id = *std::move(id), method,
                                 work = std::move(work)](const CancelToken& cancel) mutable {
      auto bridge = deps_.finder->FindBridge(id, cancel);
      if (!bridge.ok()) return Annotate(bridge.status(), absl::StrCat("forwarding ", method));
      return work(**bridge, cancel);
    });
  }

  static grpc::ServerUnaryReactor* Refuse(Context* context, absl::string_view what) {
    return AnswerNow(context, absl::UnimplementedError(
                                  absl::StrCat(what, " is not supported by this daemon yet")));
  }

  grpc::ServerUnaryReactor* Ping(Context* context, const pbf::PingRequest*,
                                 pbf::PongResponse* response) override {
    return Run(context, "Ping", [this, response](Bridge&, const CancelToken&) {
      AddCaps(FrontendCapabilities(), response->mutable_frontendapicaps());
      AddCaps(LlbCapabilitiesOffered(), response->mutable_llbcaps());
      response->add_workers()->ParseFromString(deps_.worker);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Solve(Context* context, const pbf::SolveRequest* request,
                                  pbf::SolveResponse* response) override {
    return Run(
        context, "Solve",
        [request, response](Bridge& bridge, const CancelToken& cancel) -> absl::Status {
          KILN_RETURN_IF_ERROR(RefuseUnsupported(*request));
          for (const auto& entry : request->cacheimports())
            bridge.SkipCacheImport(entry.type(), {entry.attrs().begin(), entry.attrs().end()});
          KILN_ASSIGN_OR_RETURN(std::string id,
                                bridge.AddDefinition(request->definition().SerializeAsString(),
                                                     request->definition().def_size() > 0));
          if (request->evaluate()) KILN_RETURN_IF_ERROR(bridge.Evaluate(id, cancel).status());
          return FillRef(*request, std::move(id), response);
        });
  }

  grpc::ServerUnaryReactor* Evaluate(Context* context, const pbf::EvaluateRequest* request,
                                     pbf::EvaluateResponse*) override {
    return Run(context, "Evaluate", [request](Bridge& bridge, const CancelToken& cancel) {
      return bridge.Evaluate(request->ref(), cancel).status();
    });
  }

  grpc::ServerUnaryReactor* Return(Context* context, const pbf::ReturnRequest* request,
                                   pbf::ReturnResponse*) override {
    return Run(context, "Return", [request](Bridge& bridge, const CancelToken&) {
      if (request->has_result() == request->has_error())
        return absl::InvalidArgumentError("gateway return must be either result or err");
      if (!request->has_error()) return bridge.Return(FromProto(request->result()));
      absl::Status error = ParseStatus(request->error().SerializeAsString());
      if (error.ok()) error = absl::UnknownError("frontend failed without saying why");
      return bridge.Return(std::move(error));
    });
  }

  grpc::ServerUnaryReactor* ReadFile(Context* context, const pbf::ReadFileRequest* request,
                                     pbf::ReadFileResponse* response) override {
    return Run(context, "ReadFile",
               [request, response](Bridge& bridge, const CancelToken& cancel) -> absl::Status {
                 KILN_ASSIGN_OR_RETURN(const auto tree, bridge.Tree(request->ref(), cancel));
                 const bool part = request->has_range();
                 KILN_ASSIGN_OR_RETURN(
                     *response->mutable_data(),
                     ReadTreeFile(tree, request->filepath(), part ? request->range().offset() : 0,
                                  part ? request->range().length() : -1, cancel));
                 return absl::OkStatus();
               });
  }

  grpc::ServerUnaryReactor* ReadDir(Context* context, const pbf::ReadDirRequest* request,
                                    pbf::ReadDirResponse* response) override {
    return Run(context, "ReadDir",
               [request, response](Bridge& bridge, const CancelToken& cancel) -> absl::Status {
                 KILN_ASSIGN_OR_RETURN(const auto tree, bridge.Tree(request->ref(), cancel));
                 KILN_ASSIGN_OR_RETURN(
                     const auto stats,
                     ReadTreeDir(tree, request->dirpath(), request->includepattern(), cancel));
                 for (const fsutil::Stat& stat : stats) FillStat(stat, response->add_entries());
                 return absl::OkStatus();
               });
  }

  grpc::ServerUnaryReactor* StatFile(Context* context, const pbf::StatFileRequest* request,
                                     pbf::StatFileResponse* response) override {
    return Run(context, "StatFile",
               [request, response](Bridge& bridge, const CancelToken& cancel) -> absl::Status {
                 KILN_ASSIGN_OR_RETURN(const auto tree, bridge.Tree(request->ref(), cancel));
                 KILN_ASSIGN_OR_RETURN(const auto stat,
                                       StatTreeFile(tree, request->path(), cancel));
                 FillStat(stat, response->mutable_stat());
                 return absl::OkStatus();
               });
  }

  grpc::ServerUnaryReactor* Inputs(Context* context, const pbf::InputsRequest*,
                                   pbf::InputsResponse* response) override {
    return Run(context, "Inputs", [response](Bridge& bridge, const CancelToken&) {
      for (const auto& [name, definition] : bridge.options().inputs)
        (*response->mutable_definitions())[name].ParseFromString(definition);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Warn(Context* context, const pbf::WarnRequest* request,
                                 pbf::WarnResponse*) override {
    return Run(context, "Warn", [request](Bridge& bridge, const CancelToken&) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const Digest vertex, Digest::Parse(request->digest()));
      KILN_ASSIGN_OR_RETURN(solver::Warning warning, ToWarning(*request));
      if (bridge.options().warn) bridge.options().warn(vertex, std::move(warning));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* ResolveSourceMeta(Context* context,
                                              const pbf::ResolveSourceMetaRequest* request,
                                              pbf::ResolveSourceMetaResponse* response) override {
    return Run(
        context, "ResolveSourceMeta",
        [this, request, response](Bridge& bridge, const CancelToken& cancel) -> absl::Status {
          if (!request->has_source()) return absl::InvalidArgumentError("source is required");
          if (request->sourcepolicies_size() > 0)
            return absl::UnimplementedError("source policies are not supported by this daemon yet");
          KILN_ASSIGN_OR_RETURN(
              const SourceMeta meta,
              deps_.resolve_source(bridge, request->source().SerializeAsString(), cancel));
          *response->mutable_source() = request->source();
          if (meta.kind == SourceMeta::Kind::kGit) {
            response->mutable_git()->set_checksum(meta.checksum);
            response->mutable_git()->set_ref(meta.git_ref);
            response->mutable_git()->set_commitchecksum(meta.git_commit);
          } else if (meta.kind == SourceMeta::Kind::kHttp) {
            response->mutable_http()->set_checksum(meta.checksum);
            response->mutable_http()->set_filename(meta.http_filename);
          }
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* ResolveImageConfig(Context* context,
                                               const pbf::ResolveImageConfigRequest* request,
                                               pbf::ResolveImageConfigResponse*) override {
    return Refuse(context, absl::StrCat("resolving the image ", request->ref()));
  }
  grpc::ServerUnaryReactor* NewContainer(Context* context, const pbf::NewContainerRequest*,
                                         pbf::NewContainerResponse*) override {
    return Refuse(context, "LLBBridge.NewContainer");
  }
  grpc::ServerUnaryReactor* ReleaseContainer(Context* context, const pbf::ReleaseContainerRequest*,
                                             pbf::ReleaseContainerResponse*) override {
    return Refuse(context, "LLBBridge.ReleaseContainer");
  }
  grpc::ServerUnaryReactor* ReadFileContainer(Context* context, const pbf::ReadFileRequest*,
                                              pbf::ReadFileResponse*) override {
    return Refuse(context, "LLBBridge.ReadFileContainer");
  }
  grpc::ServerUnaryReactor* ReadDirContainer(Context* context, const pbf::ReadDirRequest*,
                                             pbf::ReadDirResponse*) override {
    return Refuse(context, "LLBBridge.ReadDirContainer");
  }
  grpc::ServerUnaryReactor* StatFileContainer(Context* context, const pbf::StatFileRequest*,
                                              pbf::StatFileResponse*) override {
    return Refuse(context, "LLBBridge.StatFileContainer");
  }
  grpc::ServerBidiReactor<pbf::ExecMessage, pbf::ExecMessage>* ExecProcess(Context*) override {
    class Refusal : public grpc::ServerBidiReactor<pbf::ExecMessage, pbf::ExecMessage> {
     public:
      Refusal() {
        Finish(ToGrpc(
            absl::UnimplementedError("LLBBridge.ExecProcess is not supported by this daemon yet")));
      }
      void OnDone() override { delete this; }
    };
    return new Refusal();
  }

  const BridgeServiceDeps deps_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeBridgeService(BridgeServiceDeps deps) {
  return std::make_unique<BridgeService>(std::move(deps));
}

}  // namespace kiln::daemon
