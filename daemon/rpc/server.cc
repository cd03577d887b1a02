#include "daemon/rpc/server.h"

#include <fcntl.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/rpc/fd_loop.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int kMaxMessageBytes = 16 << 20;
constexpr int kMaxMetadataBytes = 4 << 20;
constexpr int kMinPingIntervalMs = 10'000;
constexpr int kKeepaliveTimeMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kAcceptsPerTurn = 64;
constexpr absl::Duration kOutOfFdsPause = absl::Milliseconds(100);

// Answers calls to services that are not registered, by name (trace export, containerd content).
class UnknownMethods : public grpc::CallbackGenericService {
  class Reactor : public grpc::ServerGenericBidiReactor {
   public:
    explicit Reactor(const std::string& method) {
      Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "unknown method " + method));
    }
    void OnDone() override { delete this; }
  };
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    return new Reactor(context->method());
  }
};

bool IsTcp(int fd) {
  sockaddr_storage storage;
  socklen_t length = sizeof(storage);
  return getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) == 0 &&
         (storage.ss_family == AF_INET || storage.ss_family == AF_INET6);
}

void SetTcpOptions(int fd) {
  const int on = 1;  // failures only cost latency, or a dead peer noticed later
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

std::unique_ptr<grpc::Server> Build(const std::vector<grpc::Service*>& services,
                                    UnknownMethods* unknown, size_t max_buffered_bytes) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  // gRPC looks at a message's size when it has all of it.
  if (max_buffered_bytes > 0)
    builder.SetResourceQuota(grpc::ResourceQuota().Resize(max_buffered_bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // Only reflection is synchronous: one poller is enough for it.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  builder.SetSyncServerOption(grpc::ServerBuilder::CQ_TIMEOUT_MSEC, 1000);
  for (grpc::Service* service : services) builder.RegisterService(service);
  builder.RegisterCallbackGenericService(unknown);
  return builder.BuildAndStart();
}

}  // namespace

class RpcServer::Impl {
 public:
  Impl() : loop_("kiln-accept") {}
  ~Impl() { Shutdown(absl::Now()); }

  absl::Status Start(const RpcServerOptions& options, const std::vector<grpc::Service*>& services) {
    if (options.tls.has_value()) {
      KILN_ASSIGN_OR_RETURN(tls_, TlsTerminator::Create(*options.tls));
    }
    for (const ListenAddress& address : options.addresses) {
      KILN_ASSIGN_OR_RETURN(auto sockets, ListenSocket::Open(address, options.socket));
      for (auto& socket : sockets) sockets_.push_back(std::move(socket));
    }
    server_ = Build(services, &unknown_, options.max_buffered_bytes);
    if (server_ == nullptr) return absl::InternalError("the RPC server could not be started");
    for (const auto& socket : sockets_) {
      const bool tcp = IsTcp(socket->fd());
      if (tcp && tls_ == nullptr)
        spdlog::warn("TLS is not enabled for {}: anybody who can connect controls this daemon",
                     socket->name());
      const size_t index = watches_.size();
      watches_.push_back(loop_.Add(socket->fd(), [this, index, tcp, fd = socket->fd()](uint32_t) {
        Accept(index, fd, tcp);
      }));
      if (watches_.back() == 0)
        return absl::InternalError(absl::StrCat("cannot wait for ", socket->name()));
    }
    for (uint64_t watch : watches_) loop_.Arm(watch, EPOLLIN);
    return absl::OkStatus();
  }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& socket : sockets_) names.push_back(socket->name());
    return names;
  }

  void Serve(Fd connection) {
    MutexLock lock(&mu_);
    if (stopping_) return;
    const int flags = fcntl(connection.get(), F_GETFL);
    if (flags < 0 || fcntl(connection.get(), F_SETFL, flags | O_NONBLOCK) != 0) return;
    grpc::AddInsecureChannelFromFd(server_.get(), connection.Release());
  }

  void Shutdown(absl::Time deadline) {
    for (const uint64_t watch : watches_) loop_.Remove(watch);
    watches_.clear();  // Accept, which may have run until now, reads it
    sockets_.clear();
    {
      MutexLock lock(&mu_);
      stopping_ = true;
    }
    if (server_ != nullptr) {
      server_->Shutdown(absl::ToChronoTime(deadline));
      server_->Wait();
    }
    tls_.reset();
    server_.reset();
  }

 private:
  void Accept(size_t index, int listener, bool tcp) {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
      Fd fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd.valid()) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
          spdlog::error("cannot accept a connection: {}",
                        std::string(ErrnoStatus(errno, "accept").message()));
          loop_.PostAfter(kOutOfFdsPause,
                          [this, watch = watches_[index]] { loop_.Arm(watch, EPOLLIN); });
          return;
        }
        if (errno == EAGAIN) break;
        continue;  // that client gave up meanwhile
      }
      if (tcp) SetTcpOptions(fd.get());
      if (tcp && tls_ != nullptr) {
        tls_->Accept(std::move(fd), [this](Fd plain) { Serve(std::move(plain)); });
      } else {
        Serve(std::move(fd));
      }
    }
    loop_.Arm(watches_[index], EPOLLIN);
  }

  Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  UnknownMethods unknown_;
  std::vector<std::unique_ptr<ListenSocket>> sockets_;
  std::vector<uint64_t> watches_;  // one for each socket
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<TlsTerminator> tls_;
  FdLoop loop_;
};

RpcServer::RpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RpcServer::~RpcServer() = default;

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(
    const RpcServerOptions& options, const std::vector<grpc::Service*>& services) {
  auto impl = std::make_unique<Impl>();
  KILN_RETURN_IF_ERROR(impl->Start(options, services));
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(impl)));
}

std::vector<std::string> RpcServer::names() const { return impl_->names(); }
void RpcServer::Serve(Fd connection) { impl_->Serve(std::move(connection)); }
void RpcServer::Shutdown(absl::Time deadline) { impl_->Shutdown(deadline); }

}  // namespace kiln::daemon
