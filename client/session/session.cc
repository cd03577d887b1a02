#include "client/session/session.h"

#include <fcntl.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/random_id.h"
#include "client/session/services.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/digest.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr size_t kChunkBytes = 64 << 10;
constexpr int kMaxMessageBytes = 16 << 20;
constexpr int kMaxMetadataBytes = 4 << 20;
constexpr absl::Duration kCloseTimeout = absl::Seconds(5);

using Stream =
    grpc::ClientReaderWriter<moby::buildkit::v1::BytesMessage, moby::buildkit::v1::BytesMessage>;

absl::Status CheckDirectories(const std::map<std::string, std::string>& dirs) {
  for (const auto& [name, dir] : dirs) {
    struct stat info = {};
    if (stat(dir.c_str(), &info) != 0) {
      return ErrnoStatus(errno, absl::StrCat("local ", name, ": ", dir));
    }
    if (!S_ISDIR(info.st_mode)) {
      return absl::InvalidArgumentError(
          absl::StrCat("local ", name, ": ", dir, " is not a directory"));
    }
  }
  return absl::OkStatus();
}

bool SendAll(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data.remove_prefix(sent);
  }
  return true;
}

}  // namespace

struct Session::Impl {
  SessionOptions options;
  std::unique_ptr<moby::buildkit::v1::Control::Stub> stub;
  grpc::ClientContext context;
  std::unique_ptr<Stream> stream;
  std::vector<SessionService> services;
  std::unique_ptr<grpc::Server> server;
  Fd pump;  // our end of the pair
  std::thread to_socket, to_stream;
  CancelSource ended;  // fires when the daemon has ended the stream
  Mutex mu;
  bool closed = false;  // guarded by mu

  void StreamToSocket() {
    moby::buildkit::v1::BytesMessage message;
    // Read to the end even when nobody takes it any more: the end of a call is not told before what
    // was sent is read, and Finish waits for it.
    bool taken = true;
    while (stream->Read(&message)) taken = taken && SendAll(pump.get(), message.data());
    shutdown(pump.get(), SHUT_RDWR);
    ended.Cancel();
  }

  void SocketToStream() {
    std::string buffer(kChunkBytes, '\0');
    moby::buildkit::v1::BytesMessage message;
    while (true) {
      const ssize_t got = recv(pump.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      message.set_data(buffer.data(), got);
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
  }

  absl::Status StartServer() {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
      return ErrnoStatus(errno, "socketpair");
    }
    pump = Fd(pair[1]);
    Fd served(pair[0]);
    // The server variant of the from-fd functions leaves this to the caller.
    if (fcntl(served.get(), F_SETFL, O_NONBLOCK) != 0) return ErrnoStatus(errno, "fcntl");
    services = MakeSessionServices(options);
    // Daemons drop a session that does not answer health checks (wire.md 2.3).
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(kMaxMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
    for (SessionService& service : services) builder.RegisterService(service.service.get());
    server = builder.BuildAndStart();
    if (server == nullptr) return absl::InternalError("the session's server did not start");
    grpc::AddInsecureChannelFromFd(server.get(), served.Release());
    return absl::OkStatus();
  }

  void AddMetadata() {
    context.AddMetadata("x-docker-expose-session-uuid", options.id);
    context.AddMetadata("x-docker-expose-session-sharedkey", SharedKey(options.local_dirs));
    const char* kMethod = "x-docker-expose-session-grpc-method";
    for (const SessionService& service : services) {
      for (const std::string& method : service.methods) context.AddMetadata(kMethod, method);
    }
    context.AddMetadata(kMethod, "/grpc.health.v1.Health/Check");
    context.AddMetadata(kMethod, "/grpc.health.v1.Health/Watch");
  }

  void Close(absl::Duration timeout) {
    MutexLock lock(&mu);
    if (closed) return;
    closed = true;
    shutdown(pump.get(), SHUT_RDWR);  // to_stream half-closes the RPC
    if (timeout <= absl::ZeroDuration() || ended.token().SleepFor(timeout).ok()) {
      context.TryCancel();
    }
    to_stream.join();
    to_socket.join();
    stream->Finish();
    server->Shutdown(std::chrono::system_clock::now());
    server.reset();
  }
};

std::string SharedKey(const std::map<std::string, std::string>& local_dirs) {
  if (local_dirs.empty()) return "";
  std::string identity = ReadFileToString("/etc/machine-id", 4096).value_or("");
  std::string base;
  for (const auto& [name, dir] : local_dirs) {
    char resolved[PATH_MAX];
    const std::string path = realpath(dir.c_str(), resolved) != nullptr ? resolved : dir;
    if (base.empty()) base = path.substr(path.rfind('/') + 1);
    absl::StrAppend(&identity, "\n", name, "=", path);
  }
  std::string readable;  // metadata takes printable ASCII only
  for (char c : base) readable.push_back(absl::ascii_isalnum(c) ? c : '_');
  return absl::StrCat(readable, ":", Digest::Of(identity).hex().substr(0, 16));
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Session::~Session() { Close(); }

const std::string& Session::id() const { return impl_->options.id; }

absl::StatusOr<std::unique_ptr<Session>> Session::Open(const Connection& connection,
                                                       SessionOptions options) {
  KILN_RETURN_IF_ERROR(CheckDirectories(options.local_dirs));
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  if (impl->options.id.empty()) impl->options.id = NewId();
  KILN_RETURN_IF_ERROR(impl->StartServer());
  impl->AddMetadata();
  impl->stub = moby::buildkit::v1::Control::NewStub(connection.channel());
  impl->stream = impl->stub->Session(&impl->context);
  Impl* self = impl.get();
  impl->to_socket = std::thread([self] { self->StreamToSocket(); });
  impl->to_stream = std::thread([self] { self->SocketToStream(); });
  return std::unique_ptr<Session>(new Session(std::move(impl)));
}

void Session::Close() { impl_->Close(kCloseTimeout); }

void Session::Abort() { impl_->Close(absl::ZeroDuration()); }

}  // namespace kiln::client
