#include "client/connection.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/grpc_status.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "store/base/status_macros.h"
#include "store/base/unix_socket.h"

namespace kiln::client {
namespace {

constexpr int kMaxMessageBytes = 16 << 20;  // what both daemons use
constexpr int kMaxMetadataBytes = 4 << 20;  // error details travel in trailers
constexpr absl::Duration kRetryPause = absl::Milliseconds(200);

absl::StatusOr<std::string> ReadPem(const std::string& file) {
  if (file.empty()) return std::string();
  return Annotate(ReadFileToString(file, 1 << 20), "read TLS file");
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(TlsOptions tls) {
  if (!tls.dir.empty()) {
    if (tls.ca_file.empty()) tls.ca_file = tls.dir + "/ca.pem";
    if (tls.cert_file.empty()) tls.cert_file = tls.dir + "/cert.pem";
    if (tls.key_file.empty()) tls.key_file = tls.dir + "/key.pem";
  }
  if (tls.ca_file.empty() && tls.cert_file.empty() && tls.key_file.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  if (tls.cert_file.empty() != tls.key_file.empty()) {
    return absl::InvalidArgumentError(
        "TLS needs both a certificate and its key (--tlscert, --tlskey)");
  }
  grpc::SslCredentialsOptions options;
  KILN_ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem(tls.ca_file));
  KILN_ASSIGN_OR_RETURN(options.pem_cert_chain, ReadPem(tls.cert_file));
  KILN_ASSIGN_OR_RETURN(options.pem_private_key, ReadPem(tls.key_file));
  return grpc::SslCredentials(options);
}

struct Target {
  std::string grpc;       // as gRPC names it
  std::string unix_path;  // "" for TCP
};

absl::StatusOr<Target> ParseAddress(const std::string& address) {
  absl::string_view rest = address;
  if (absl::ConsumePrefix(&rest, "unix://")) {
    if (rest.empty()) return absl::InvalidArgumentError("address unix:// names no socket");
    return Target{absl::StrCat("unix:", rest), std::string(rest)};
  }
  if (absl::ConsumePrefix(&rest, "tcp://")) {
    if (rest.empty() || !absl::StrContains(rest, ':')) {
      return absl::InvalidArgumentError(
          absl::StrCat("address ", address, " has no port: use tcp://host:port"));
    }
    return Target{absl::StrCat("dns:", rest), ""};
  }
  const absl::string_view scheme = absl::string_view(address).substr(0, address.find("://"));
  if (scheme == "ssh" || absl::EndsWith(scheme, "-container") || scheme == "kube-pod") {
    return absl::UnimplementedError(absl::StrCat("connecting through ", scheme,
                                                 ":// is not implemented; use unix:// or tcp://"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("address \"", address, "\" must begin with unix:// or tcp://"));
}

absl::Status AskInfo(const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout) {
  auto stub = moby::buildkit::v1::Control::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  moby::buildkit::v1::InfoResponse response;
  const grpc::Status status = stub->Info(&context, {}, &response);
  // A daemon older than the call is up as well.
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) return absl::OkStatus();
  return FromGrpc(status);
}

}  // namespace

absl::StatusOr<Fd> DialUnix(const std::string& path) {
  absl::StatusOr<Fd> fd = ConnectUnix(path);
  if (fd.ok() || absl::IsInvalidArgument(fd.status()) || absl::IsPermissionDenied(fd.status()))
    return fd;
  return absl::UnavailableError(fd.status().message());
}

std::string DefaultAddress() {
  for (const char* variable : {"KILN_HOST", "BUILDKIT_HOST"}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') return value;
  }
  std::vector<std::string> paths;
  const char* runtime_dir = std::getenv("XDG_RUNTIME_DIR");
  if (geteuid() != 0 && runtime_dir != nullptr && *runtime_dir != '\0') {
    paths.push_back(absl::StrCat(runtime_dir, "/kiln/kilnd.sock"));
    paths.push_back(absl::StrCat(runtime_dir, "/buildkit/buildkitd.sock"));
  }
  paths.push_back("/run/kiln/kilnd.sock");
  paths.push_back("/run/buildkit/buildkitd.sock");
  for (const std::string& path : paths) {
    if (access(path.c_str(), F_OK) == 0) return absl::StrCat("unix://", path);
  }
  return absl::StrCat("unix://", paths.back());  // kilnd's default too: it takes buildkitd's place
}

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const ConnectOptions& options) {
  const std::string address = options.address.empty() ? DefaultAddress() : options.address;
  KILN_ASSIGN_OR_RETURN(const Target target, ParseAddress(address));
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (target.unix_path.empty()) {
    KILN_ASSIGN_OR_RETURN(credentials, Credentials(options.tls));
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // http_proxy is meant for registries
  // Each Connection has its own; gRPC would share one between equal targets in a process.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  if (!target.unix_path.empty()) arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  if (!options.tls.server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.tls.server_name);
  }
  // No keepalive: servers answer frequent pings with GOAWAY (wire.md 0).
  auto channel = grpc::CreateCustomChannel(target.grpc, credentials, arguments);
  while (true) {
    absl::Status status =
        target.unix_path.empty() ? absl::OkStatus() : DialUnix(target.unix_path).status();
    if (status.ok() &&
        !channel->WaitForConnected(absl::ToChronoTime(absl::Now() + options.timeout))) {
      status = absl::UnavailableError(absl::StrCat("no connection to ", address, " within ",
                                                   absl::FormatDuration(options.timeout)));
    }
    if (status.ok() && options.wait) status = AskInfo(channel, options.timeout);
    if (status.ok()) break;
    if (!options.wait || !absl::IsUnavailable(status)) {
      return Annotate(status, absl::StrCat("no daemon at ", address));
    }
    KILN_RETURN_IF_ERROR(options.cancel.SleepFor(kRetryPause));
  }
  return std::unique_ptr<Connection>(new Connection(address, std::move(channel)));
}

}  // namespace kiln::client
