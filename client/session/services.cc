#include "client/session/services.h"

#include <grpcpp/server_context.h>
#include <sys/socket.h>

#include <string>
#include <thread>
#include <utility>

#include "client/grpc_status.h"
#include "client/session/content_service.h"
#include "client/session/docker_auth.h"
#include "client/session/file_services.h"
#include "proto/buildkit/auth.grpc.pb.h"
#include "proto/buildkit/secrets.grpc.pb.h"
#include "proto/buildkit/ssh.grpc.pb.h"
#include "store/base/fd.h"

namespace kiln::client {
namespace {

// Token authority stays UNIMPLEMENTED: daemons then fetch tokens themselves with the credentials.
class AuthService : public moby::filesync::v1::Auth::Service {
 public:
  explicit AuthService(const SessionOptions& options) : options_(options) {}

  grpc::Status Credentials(grpc::ServerContext*,
                           const moby::filesync::v1::CredentialsRequest* request,
                           moby::filesync::v1::CredentialsResponse* response) override {
    auto found = LookUpCredentials(options_.docker_config_dir, request->host());
    if (!found.ok()) return ToGrpc(found.status());
    response->set_username(found->username);
    response->set_secret(found->secret);
    return grpc::Status::OK;
  }

 private:
  const SessionOptions& options_;
};

class SecretsService : public moby::buildkit::secrets::v1::Secrets::Service {
 public:
  explicit SecretsService(const SessionOptions& options) : options_(options) {}

  grpc::Status GetSecret(grpc::ServerContext*,
                         const moby::buildkit::secrets::v1::GetSecretRequest* request,
                         moby::buildkit::secrets::v1::GetSecretResponse* response) override {
    auto value = options_.secrets.Get(request->id());
    if (!value.ok()) return ToGrpc(value.status());
    response->set_data(*std::move(value));
    return grpc::Status::OK;
  }

 private:
  const SessionOptions& options_;
};

using SshStream = grpc::ServerReaderWriter<moby::sshforward::v1::BytesMessage,
                                           moby::sshforward::v1::BytesMessage>;

class SshService : public moby::sshforward::v1::SSH::Service {
 public:
  explicit SshService(const SessionOptions& options) : options_(options) {}

  grpc::Status CheckAgent(grpc::ServerContext*,
                          const moby::sshforward::v1::CheckAgentRequest* request,
                          moby::sshforward::v1::CheckAgentResponse*) override {
    return ToGrpc(options_.ssh.Check(request->id()));
  }

  grpc::Status ForwardAgent(grpc::ServerContext* context, SshStream* stream) override {
    const auto id = context->client_metadata().find("buildkit.ssh.id");
    absl::StatusOr<Fd> agent =
        options_.ssh.Connect(id == context->client_metadata().end()
                                 ? absl::string_view()
                                 : absl::string_view(id->second.data(), id->second.size()));
    if (!agent.ok()) return ToGrpc(agent.status());
    std::thread answers([fd = agent->get(), stream] { CopyAnswers(fd, stream); });
    moby::sshforward::v1::BytesMessage message;
    while (stream->Read(&message) && WriteAll(agent->get(), message.data()).ok()) {
    }
    shutdown(agent->get(), SHUT_WR);
    if (context->IsCancelled()) shutdown(agent->get(), SHUT_RDWR);
    answers.join();
    return grpc::Status::OK;
  }

 private:
  static void CopyAnswers(int fd, SshStream* stream) {
    constexpr size_t kChunkBytes = 32 << 10;
    std::string buffer(kChunkBytes, '\0');
    moby::sshforward::v1::BytesMessage message;
    while (true) {
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return;
      message.set_data(buffer.data(), got);
      if (!stream->Write(message)) return;
    }
  }

  const SessionOptions& options_;
};

}  // namespace

std::vector<SessionService> MakeSessionServices(const SessionOptions& options) {
  std::vector<SessionService> services;
  services.push_back({std::make_unique<AuthService>(options),
                      {"/moby.filesync.v1.Auth/Credentials", "/moby.filesync.v1.Auth/FetchToken",
                       "/moby.filesync.v1.Auth/GetTokenAuthority",
                       "/moby.filesync.v1.Auth/VerifyTokenAuthority"}});
  if (!options.local_dirs.empty()) services.push_back(MakeFileSync(options));
  for (const ExportTarget& target : options.exports) {
    if (target.kind == ExportTarget::Kind::kNone || target.kind == ExportTarget::Kind::kLayout)
      continue;
    services.push_back(MakeFileSend(options));
    break;
  }
  if (!options.content.empty()) services.push_back(MakeContentService(options));
  if (!options.secrets.empty()) {
    services.push_back({std::make_unique<SecretsService>(options),
                        {"/moby.buildkit.secrets.v1.Secrets/GetSecret"}});
  }
  if (!options.ssh.empty()) {
    services.push_back(
        {std::make_unique<SshService>(options),
         {"/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"}});
  }
  return services;
}

}  // namespace kiln::client
