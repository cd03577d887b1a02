#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/rpc/address.h"
#include "daemon/rpc/listen_socket.h"
#include "daemon/rpc/tls.h"

namespace grpc {
class Service;
}

namespace kiln::daemon {

struct RpcServerOptions {
  std::vector<ListenAddress> addresses;
  SocketOptions socket;           // of unix sockets
  std::optional<TlsOptions> tls;  // for TCP; unix sockets are always plain
  // What all connections together may have in memory of messages that are on their way; beyond it
  // streams are cut off, whosever they are.
  size_t max_buffered_bytes = 0;  // 0: no limit
};

// The gRPC server of the daemon with its listeners, health, reflection, and an answer to calls that
// nobody implements. Connections are accepted here and handed to gRPC as descriptors: gRPC's own
// listener unlinks a unix socket that another daemon serves, and cannot set its mode and group.
// Thread-safe.
class RpcServer {
 public:
  // Listens and serves. `services` use the callback API and outlive the server.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(
      const RpcServerOptions& options, const std::vector<grpc::Service*>& services);
  ~RpcServer();

  // What it listens on, with the ports that were picked.
  std::vector<std::string> names() const;

  // Takes an already connected stream socket as one more connection.
  void Serve(Fd connection);

  // Stops listening, cancels calls that still run at `deadline`, waits for all of them.
  void Shutdown(absl::Time deadline);

 private:
  class Impl;
  explicit RpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kiln::daemon
