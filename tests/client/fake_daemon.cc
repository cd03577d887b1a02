#include "tests/client/fake_daemon.h"

#include <grpcpp/create_channel_posix.h>
#include <grpcpp/server_builder.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "client/grpc_status.h"
#include "store/base/fd.h"

namespace kiln::client {
namespace {

namespace control = moby::buildkit::v1;
namespace gateway = moby::buildkit::v1::frontend;

// Copies the bytes of a session's stream to and from a socket.
void Pump(grpc::ServerReaderWriter<control::BytesMessage, control::BytesMessage>* stream, int fd) {
  std::thread to_client([stream, fd] {
    char buffer[16384];
    control::BytesMessage message;
    ssize_t got = 0;
    while ((got = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
      message.set_data(buffer, static_cast<size_t>(got));
      if (!stream->Write(message)) break;
    }
  });
  control::BytesMessage message;
  while (stream->Read(&message)) {
    if (send(fd, message.data().data(), message.data().size(), MSG_NOSIGNAL) < 0) break;
  }
  shutdown(fd, SHUT_RDWR);
  to_client.join();
}

}  // namespace

struct FakeDaemon::State {
  State(FakeDaemon* daemon, Script given)
      : script(std::move(given)), control_service(this), bridge_service(this), owner(daemon) {}

  class ControlService : public control::Control::Service {
   public:
    explicit ControlService(State* state) : state_(state) {}
    grpc::Status Info(grpc::ServerContext*, const control::InfoRequest*,
                      control::InfoResponse*) override {
      return grpc::Status::OK;
    }
    grpc::Status ListWorkers(grpc::ServerContext*, const control::ListWorkersRequest*,
                             control::ListWorkersResponse* response) override {
      response->add_record()->set_id("fake");
      return grpc::Status::OK;
    }
    grpc::Status Session(
        grpc::ServerContext* context,
        grpc::ServerReaderWriter<control::BytesMessage, control::BytesMessage>* stream) override {
      return state_->Session(context, stream);
    }
    grpc::Status Solve(grpc::ServerContext* context, const control::SolveRequest* request,
                       control::SolveResponse* response) override {
      return ToGrpc(state_->Solve(context, *request, response));
    }
    grpc::Status Status(grpc::ServerContext*, const control::StatusRequest*,
                        grpc::ServerWriter<control::StatusResponse>* writer) override {
      for (const auto& message : state_->script.progress) writer->Write(message);
      MutexLock lock(&state_->mu);
      while (!state_->build_ended) state_->changed.Wait(&state_->mu);
      return grpc::Status::OK;
    }

   private:
    State* const state_;
  };

  class BridgeService : public gateway::LLBBridge::Service {
   public:
    explicit BridgeService(State* state) : state_(state) {}
    grpc::Status Ping(grpc::ServerContext*, const gateway::PingRequest*,
                      gateway::PongResponse* response) override {
      for (const std::string& cap : state_->script.caps) {
        auto* out = response->add_llbcaps();
        out->set_id(cap);
        out->set_enabled(true);
      }
      return grpc::Status::OK;
    }
    grpc::Status Solve(grpc::ServerContext* context, const gateway::SolveRequest* request,
                       gateway::SolveResponse* response) override {
      MutexLock lock(&state_->mu);
      state_->owner->gateway_request = *request;
      const auto id = context->client_metadata().find("buildkit-controlapi-buildid");
      if (id != context->client_metadata().end()) {
        state_->owner->build_id.assign(id->second.data(), id->second.size());
      }
      response->mutable_result()->mutable_ref()->set_id("ref1");
      (*response->mutable_result()->mutable_metadata())["key"] = "value";
      return ToGrpc(state_->script.gateway_status);
    }
    grpc::Status Return(grpc::ServerContext*, const gateway::ReturnRequest* request,
                        gateway::ReturnResponse*) override {
      MutexLock lock(&state_->mu);
      state_->owner->return_request = *request;
      state_->returned = true;
      state_->changed.SignalAll();
      return grpc::Status::OK;
    }

   private:
    State* const state_;
  };

  grpc::Status Session(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<control::BytesMessage, control::BytesMessage>* stream) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) abort();
    Fd pump(pair[1]);
    {
      MutexLock lock(&mu);
      for (const auto& [key, value] : context->client_metadata()) {
        const std::string text(value.data(), value.size());
        if (key == "x-docker-expose-session-grpc-method") owner->session_methods.push_back(text);
        if (key == "x-docker-expose-session-uuid") owner->session_id = text;
      }
      session = grpc::CreateInsecureChannelFromFd("session", pair[0]);
      changed.SignalAll();
    }
    Pump(stream, pump.get());
    control::BytesMessage late;
    late.set_data(std::string(32 << 10, 'x'));
    for (int i = 0; i < script.late_session_messages; ++i) stream->Write(late);
    MutexLock lock(&mu);
    owner->session_ended = true;
    changed.SignalAll();
    return grpc::Status::OK;
  }

  absl::Status Solve(grpc::ServerContext* context, const control::SolveRequest& request,
                     control::SolveResponse* response) {
    std::shared_ptr<grpc::Channel> channel;
    absl::Status status;
    {
      MutexLock lock(&mu);
      owner->solve_request = request;
      while ((!returned || session == nullptr) && !context->IsCancelled()) {
        changed.WaitFor(&mu, absl::Milliseconds(10));
      }
      if (owner->return_request.has_error()) {
        status = absl::Status(static_cast<absl::StatusCode>(owner->return_request.error().code()),
                              owner->return_request.error().message());
      }
      channel = session;
    }
    if (context->IsCancelled()) status = absl::CancelledError("context canceled");
    if (status.ok() && script.build != nullptr) status = script.build(channel);
    for (const auto& [key, value] : script.exporter_response) {
      (*response->mutable_exporterresponse())[key] = value;
    }
    MutexLock lock(&mu);
    build_ended = true;
    changed.SignalAll();
    return status;
  }

  const Script script;
  ControlService control_service;
  BridgeService bridge_service;
  FakeDaemon* const owner;
  std::unique_ptr<grpc::Server> server;
  Mutex mu;
  CondVar changed;
  bool returned ABSL_GUARDED_BY(mu) = false;
  bool build_ended ABSL_GUARDED_BY(mu) = false;
  std::shared_ptr<grpc::Channel> session ABSL_GUARDED_BY(mu);
};

FakeDaemon::FakeDaemon(Script script) : state_(std::make_unique<State>(this, std::move(script))) {
  std::string pattern = "/tmp/fake-daemon.XXXXXX";
  folder_ = mkdtemp(pattern.data());
  address_ = "unix://" + folder_ + "/d.sock";
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + folder_ + "/d.sock", grpc::InsecureServerCredentials());
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 4 << 20);
  builder.RegisterService(&state_->control_service);
  builder.RegisterService(&state_->bridge_service);
  state_->server = builder.BuildAndStart();
}

bool FakeDaemon::WaitForSessionEnd() {
  MutexLock lock(&state_->mu);
  for (int i = 0; i < 500 && !session_ended; ++i) {
    state_->changed.WaitFor(&state_->mu, absl::Milliseconds(10));
  }
  return session_ended;
}

FakeDaemon::~FakeDaemon() {
  {
    MutexLock lock(&state_->mu);
    state_->build_ended = true;
    state_->changed.SignalAll();
  }
  state_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
  unlink((folder_ + "/d.sock").c_str());
  rmdir(folder_.c_str());
}

}  // namespace kiln::client
