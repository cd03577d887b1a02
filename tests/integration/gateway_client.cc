#include "tests/integration/gateway_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <chrono>
#include <utility>

#include "client/grpc_status.h"
#include "client/random_id.h"
#include "client/solve/solve.h"
#include "store/base/status_macros.h"

namespace kiln::integration {

namespace {

constexpr std::chrono::seconds kCallTimeout{60};

}  // namespace

GatewayClient::GatewayClient(const client::Connection& connection, std::string build)
    : build_(std::move(build)), stub_(gateway::LLBBridge::NewStub(connection.channel())) {}

std::unique_ptr<grpc::ClientContext> GatewayClient::NewContext() const {
  auto context = std::make_unique<grpc::ClientContext>();
  context->AddMetadata("buildkit-controlapi-buildid", build_);
  context->set_deadline(std::chrono::system_clock::now() + kCallTimeout);
  return context;
}

absl::Status GatewayClient::FromStatus(const grpc::Status& status) {
  return client::FromGrpc(status);
}

absl::Status GatewayClient::InBuild(const std::string& address, const BusyboxBase& base,
                                    const std::function<void(GatewayClient&)>& frontend) {
  client::ConnectOptions connect;
  connect.address = address;
  KILN_ASSIGN_OR_RETURN(const auto connection, client::Connection::Open(connect));
  client::SolveOptions options;
  options.ref = client::NewId();
  options.local_dirs["base"] = base.path();
  options.before_frontend = [&](client::FrontendCall*) {
    GatewayClient client(*connection, options.ref);
    frontend(client);
    return absl::OkStatus();
  };
  return client::Solve(*connection, options, nullptr).status();
}

absl::StatusOr<std::string> GatewayClient::Evaluate(const client::llb::State& state) {
  KILN_ASSIGN_OR_RETURN(const client::llb::Definition definition, state.Marshal());
  gateway::SolveRequest request;
  request.mutable_definition()->ParseFromString(definition.Serialize());
  request.set_evaluate(true);
  request.set_allowresultreturn(true);
  request.set_allowresultarrayref(true);
  gateway::SolveResponse response;
  KILN_RETURN_IF_ERROR(Call(&gateway::LLBBridge::Stub::Solve, request, &response));
  return response.result().ref().id();
}

absl::StatusOr<ProcessEnd> GatewayClient::RunIn(const gateway::NewContainerRequest& container,
                                                const std::vector<std::string>& args) {
  gateway::NewContainerResponse made;
  KILN_RETURN_IF_ERROR(Call(&gateway::LLBBridge::Stub::NewContainer, container, &made));
  const auto context = NewContext();
  const auto stream = stub_->ExecProcess(context.get());
  gateway::ExecMessage message;
  message.set_processid("p");
  auto* init = message.mutable_init();
  init->set_containerid(container.containerid());
  for (const std::string& arg : args) init->mutable_meta()->add_args(arg);
  init->mutable_meta()->add_env("PATH=/bin");
  init->add_fds(1);
  init->add_fds(2);
  stream->Write(message);
  ProcessEnd end;
  bool done = false;
  while (!done && stream->Read(&message)) {
    if (message.has_file())
      (message.file().fd() == 1 ? end.out : end.err).append(message.file().data());
    if (message.has_exit()) {
      end.code = message.exit().code();
      end.error = message.exit().error().message();
    }
    done = message.has_done();
  }
  context->TryCancel();
  const absl::Status status = FromStatus(stream->Finish());
  if (!done) return status.ok() ? absl::UnknownError("no Done came") : status;
  gateway::ReleaseContainerRequest release;
  release.set_containerid(container.containerid());
  gateway::ReleaseContainerResponse released;
  KILN_RETURN_IF_ERROR(Call(&gateway::LLBBridge::Stub::ReleaseContainer, release, &released));
  return end;
}

}  // namespace kiln::integration
