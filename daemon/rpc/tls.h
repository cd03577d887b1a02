#pragma once

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "daemon/rpc/fd_loop.h"
#include "store/base/fd.h"

typedef struct ssl_ctx_st SSL_CTX;

namespace kiln::daemon {

// Files of PEM data.
struct TlsOptions {
  std::string cert_file, key_file;
  std::string ca_file;  // not empty: clients must show a certificate that it signed
};

// Ends TLS in front of gRPC: each accepted connection is handed on as one end of a socketpair that
// carries the plain bytes.
//
// gRPC's own TLS server refuses a handshake without ALPN, and the remote driver of buildx sends
// none (docker/buildx driver/remote), so a stock server could not be reached by it. Here ALPN is
// optional; a client that offers protocols without h2 is refused. TLS 1.2 or newer.
// Thread-safe. All work runs on one thread of its own. The process must ignore SIGPIPE.
class TlsTerminator {
 public:
  // kInvalidArgument names the file that cannot be used.
  static absl::StatusOr<std::unique_ptr<TlsTerminator>> Create(const TlsOptions& options);
  ~TlsTerminator();

  // Takes an accepted, non-blocking socket. `ready` gets the plain end once the handshake is done;
  // it is dropped when the handshake fails or takes longer than 10 s.
  void Accept(Fd connection, absl::AnyInvocable<void(Fd plain)> ready);

 private:
  class Connection;
  class Impl;
  explicit TlsTerminator(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace kiln::daemon
