#include "client/solve/solve.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/grpc_status.h"
#include "client/random_id.h"
#include "client/solve/local_content.h"
#include "client/solve/status_stream.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/buildkit/gateway.grpc.pb.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/go_json.h"
#include "proto/google/status.pb.h"
#include "proto/status_details.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

using moby::buildkit::v1::Control;
using moby::buildkit::v1::frontend::LLBBridge;
namespace control = moby::buildkit::v1;
namespace gateway = moby::buildkit::v1::frontend;

constexpr absl::Duration kPingTimeout = absl::Seconds(15);
constexpr absl::Duration kReturnGrace = absl::Seconds(5);
constexpr absl::Duration kStatusIdle = absl::Seconds(5);
constexpr absl::Duration kCancelGrace = absl::Seconds(5);

void FillAttrs(const std::map<std::string, std::string>& from,
               google::protobuf::Map<std::string, std::string>* to) {
  for (const auto& [key, value] : from) (*to)[key] = value;
}

control::SolveRequest MakeRequest(const SolveOptions& options, const std::string& ref,
                                  const std::string& session) {
  control::SolveRequest request;
  request.set_ref(ref);
  request.set_session(session);
  // Neither definition nor frontend: the build comes through the gateway.
  for (const ExportRequest& output : options.outputs) {
    if (output.type.empty()) continue;
    auto* exporter = request.add_exporters();
    exporter->set_type(output.type);
    FillAttrs(output.attrs, exporter->mutable_attrs());
  }
  if (request.exporters_size() > 0) {  // daemons before v0.13 know one exporter, by other fields
    request.set_exporterdeprecated(request.exporters(0).type());
    *request.mutable_exporterattrsdeprecated() = request.exporters(0).attrs();
  }
  FillAttrs(options.frontend_attrs, request.mutable_frontendattrs());
  auto* cache = request.mutable_cache();  // absent, it crashes some buildkitd versions
  for (const CacheEntry& entry : options.cache_exports) {
    auto* out = cache->add_exports();
    out->set_type(entry.type);
    FillAttrs(entry.attrs, out->mutable_attrs());
  }
  for (const CacheEntry& entry : options.cache_imports) {
    auto* out = cache->add_imports();
    out->set_type(entry.type);
    FillAttrs(entry.attrs, out->mutable_attrs());
  }
  for (const std::string& entitlement : options.entitlements) {
    request.add_entitlements(entitlement);
  }
  if (!options.source_policy.empty())
    request.mutable_sourcepolicy()->ParseFromString(options.source_policy);
  request.set_internal(options.internal);
  return request;
}

// [{"Type":…,"Attrs":{…}}], as frontends read it.
std::string CacheImportsJson(const std::vector<CacheEntry>& imports) {
  GoJson json;
  json.BeginArray();
  for (const CacheEntry& entry : imports) {
    json.BeginObject().Key("Type").String(entry.type).Key("Attrs").BeginObject();
    for (const auto& [key, value] : entry.attrs) json.Key(key).String(value);
    json.EndObject().EndObject();
  }
  return json.EndArray().Take();
}

// Marks every op, so that nothing is taken from the cache.
void IgnoreCacheEverywhere(pb::Definition* definition) {
  for (const std::string& op : definition->def()) {
    (*definition->mutable_metadata())[Digest::Of(op).ToString()].set_ignore_cache(true);
  }
}

absl::Status CheckCaps(const pb::Definition& definition, const gateway::PongResponse& pong) {
  std::set<std::string> known;
  for (const auto& cap : pong.llbcaps()) {
    if (cap.enabled()) known.insert(cap.id());
  }
  if (known.empty()) return absl::OkStatus();  // the daemon does not tell
  for (const auto& [digest, metadata] : definition.metadata()) {
    for (const auto& [cap, needed] : metadata.caps()) {
      if (needed && known.count(cap) == 0) {
        return absl::UnimplementedError(
            absl::StrCat("requested feature ", cap,
                         " is not supported by build server, please update the server"));
      }
    }
  }
  return absl::OkStatus();
}

FrontendResult ToFrontendResult(const gateway::Result& from) {
  FrontendResult to;
  to.metadata = {from.metadata().begin(), from.metadata().end()};
  if (from.has_ref()) to.definitions[""] = from.ref().def().SerializeAsString();
  for (const auto& [platform, ref] : from.refs().refs())
    to.definitions[platform] = ref.def().SerializeAsString();
  return to;
}

// One build under way. The calls that may block share one rule: Cancel ends them all.
class Build {
 public:
  Build(const Connection& connection, const SolveOptions& options)
      : options_(options),
        ref_(options.ref.empty() ? NewId() : options.ref),
        control_(Control::NewStub(connection.channel())),
        bridge_(LLBBridge::NewStub(connection.channel())) {}

  const std::string& ref() const { return ref_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  absl::Status CheckDaemon() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    control::ListWorkersResponse workers;
    return Annotate(FromGrpc(control_->ListWorkers(&context, {}, &workers)), "list workers");
  }

  // Control.Solve on a thread of its own.
  void StartSolve(const std::string& session) {
    solve_thread_ = std::thread([this, session] {
      const control::SolveRequest request = MakeRequest(options_, ref_, session);
      absl::Status status = FromGrpc(control_->Solve(&solve_context_, request, &solve_response_));
      MutexLock lock(&mu_);
      outcome_ = std::move(status);
      // A build that ended leaves nobody to answer the gateway's calls.
      if (bridge_context_ != nullptr) bridge_context_->TryCancel();
      changed_.SignalAll();
    });
  }

  // Ping, Solve and Return through the gateway.
  void RunGateway() {
    gateway::ReturnRequest request;
    const absl::Status status = SolveThroughGateway(request.mutable_result());
    if (!status.ok()) {
      request.clear_result();
      request.mutable_error()->ParseFromString(SerializeStatus(status));
    }
    gateway::ReturnResponse response;
    const absl::Status returned = CallBridge(
        absl::InfiniteDuration(),
        [&](grpc::ClientContext* context) { return bridge_->Return(context, request, &response); });
    if (!status.ok()) gateway_status_ = status;
    if (status.ok() && !returned.ok()) gateway_status_ = returned;
  }

  // The build's outcome is the daemon's word. When it is only that the build was canceled, because
  // the gateway's part failed, that failure says more. (An error of the gateway's calls alone means
  // nothing: the build may end, and the calls with it, before Return has its answer.)
  absl::Status WaitForSolve() {
    {
      MutexLock lock(&mu_);
      while (!outcome_) {
        if (gateway_status_.ok()) {
          changed_.Wait(&mu_);
        } else if (!changed_.WaitFor(&mu_, kReturnGrace) && !outcome_) {
          solve_context_.TryCancel();
          changed_.Wait(&mu_);
        }
      }
    }
    solve_thread_.join();
    MutexLock lock(&mu_);
    return absl::IsCancelled(*outcome_) && !gateway_status_.ok() ? gateway_status_ : *outcome_;
  }

  void Cancel() {
    MutexLock lock(&mu_);
    if (bridge_context_ != nullptr) bridge_context_->TryCancel();
    cancelled_ = true;
    solve_context_.TryCancel();
  }

  std::map<std::string, std::string> ExporterResponse() const {
    return {solve_response_.exporterresponse().begin(), solve_response_.exporterresponse().end()};
  }

 private:
  // One call with the build's id; ends early when the build does.
  template <typename Call>
  absl::Status CallBridge(absl::Duration timeout, Call call) {
    grpc::ClientContext context;
    context.AddMetadata("buildkit-controlapi-buildid", ref_);
    if (timeout != absl::InfiniteDuration()) {
      context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    }
    {
      MutexLock lock(&mu_);
      if (outcome_ || cancelled_) return absl::CancelledError("context canceled");
      bridge_context_ = &context;
    }
    const grpc::Status status = call(&context);
    MutexLock lock(&mu_);
    bridge_context_ = nullptr;
    return FromGrpc(status);
  }

  absl::Status SolveThroughGateway(gateway::Result* result) {
    gateway::PongResponse pong;
    KILN_RETURN_IF_ERROR(CallBridge(kPingTimeout, [&](grpc::ClientContext* context) {
      return bridge_->Ping(context, {}, &pong);
    }));
    gateway::SolveRequest request;
    if (!options_.definition.empty()) {
      if (!request.mutable_definition()->ParseFromString(options_.definition)) {
        return absl::InvalidArgumentError("the definition is not a serialized pb.Definition");
      }
      if (options_.no_cache) IgnoreCacheEverywhere(request.mutable_definition());
      KILN_RETURN_IF_ERROR(CheckCaps(request.definition(), pong));
    }
    request.set_frontend(options_.frontend);
    FillAttrs(options_.frontend_attrs, request.mutable_frontendopt());
    if (options_.no_cache && !options_.frontend.empty()) {
      request.mutable_frontendopt()->insert({"no-cache", ""});
    }
    for (const CacheEntry& entry : options_.cache_imports) {
      auto* out = request.add_cacheimports();
      out->set_type(entry.type);
      FillAttrs(entry.attrs, out->mutable_attrs());
    }
    if (!options_.cache_imports.empty()) {
      (*request.mutable_frontendopt())["cache-imports"] = CacheImportsJson(options_.cache_imports);
    }
    KILN_RETURN_IF_ERROR(AddToCall(&request));
    request.set_allowresultreturn(true);
    request.set_allowresultarrayref(true);
    gateway::SolveResponse response;
    KILN_RETURN_IF_ERROR(CallBridge(absl::InfiniteDuration(), [&](grpc::ClientContext* context) {
      return bridge_->Solve(context, request, &response);
    }));
    *result = std::move(*response.mutable_result());
    if (options_.after_frontend != nullptr)
      KILN_RETURN_IF_ERROR(options_.after_frontend(ToFrontendResult(*result)));
    metadata_ = {result->metadata().begin(), result->metadata().end()};
    if (result->result_case() == gateway::Result::RESULT_NOT_SET) result->mutable_ref();
    return absl::OkStatus();
  }

  absl::Status AddToCall(gateway::SolveRequest* request) {
    if (options_.before_frontend == nullptr) return absl::OkStatus();
    FrontendCall call;
    KILN_RETURN_IF_ERROR(options_.before_frontend(&call));
    FillAttrs(call.attrs, request->mutable_frontendopt());
    for (const auto& [name, definition] : call.inputs) {
      if (!(*request->mutable_frontendinputs())[name].ParseFromString(definition))
        return absl::InternalError(absl::StrCat("input ", name, " is no pb.Definition"));
    }
    return absl::OkStatus();
  }

  const SolveOptions& options_;
  const std::string ref_;
  const std::unique_ptr<Control::Stub> control_;
  const std::unique_ptr<LLBBridge::Stub> bridge_;
  grpc::ClientContext solve_context_;
  control::SolveResponse solve_response_;
  std::thread solve_thread_;
  absl::Status gateway_status_;
  std::map<std::string, std::string> metadata_;

  Mutex mu_;
  CondVar changed_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<absl::Status> outcome_ ABSL_GUARDED_BY(mu_);            // Control.Solve's
  grpc::ClientContext* bridge_context_ ABSL_GUARDED_BY(mu_) = nullptr;  // of the call under way
};

}  // namespace

absl::StatusOr<SolveResult> Solve(const Connection& connection, const SolveOptions& given,
                                  ProgressSink* sink) {
  SolveOptions options = given;
  KILN_ASSIGN_OR_RETURN(const LocalContent content, LocalContent::Prepare(&options));
  Build build(connection, options);
  KILN_RETURN_IF_ERROR(options.cancel.status());
  KILN_RETURN_IF_ERROR(build.CheckDaemon());
  SessionOptions session_options;
  session_options.local_dirs = options.local_dirs;
  session_options.content = content.stores();
  session_options.secrets = options.secrets;
  session_options.ssh = options.ssh;
  for (const ExportRequest& output : options.outputs) {
    if (!output.type.empty()) session_options.exports.push_back(output.target);
  }
  KILN_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                        Session::Open(connection, std::move(session_options)));
  build.StartSolve(session->id());
  absl::Status status;
  absl::Status progress;
  {
    StatusStream stream(connection, build.ref(), sink);
    const CancelRegistration on_cancel = options.cancel.OnCancel([&build] { build.Cancel(); });
    build.RunGateway();
    status = build.WaitForSolve();
    // The session first: its services are no longer needed, and the daemon expects it.
    if (options.cancel.Cancelled()) {
      session->Abort();
    } else {
      session->Close();
    }
    progress = stream.Finish(options.cancel.Cancelled() ? kCancelGrace : kStatusIdle);
  }
  if (options.cancel.Cancelled() && !status.ok()) return options.cancel.status();
  KILN_RETURN_IF_ERROR(status);
  KILN_RETURN_IF_ERROR(content.Finish(build.ExporterResponse()));
  return SolveResult{build.ref(), build.ExporterResponse(), build.metadata()};
}

}  // namespace kiln::client
