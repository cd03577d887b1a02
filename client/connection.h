#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"

namespace grpc {
class Channel;
}

namespace kiln::client {

struct TlsOptions {
  std::string server_name;  // "": the address' host
  std::string ca_file;      // not empty: TLS is on
  std::string cert_file;    // with key_file: mutual TLS
  std::string key_file;
  // A directory with ca.pem, cert.pem and key.pem, for those that are not named above.
  std::string dir;
};

struct ConnectOptions {
  // "unix:///path" or "tcp://host:port". "": see DefaultAddress.
  std::string address;
  TlsOptions tls;
  absl::Duration timeout = absl::Seconds(5);
  // Keep trying until the daemon answers, or `cancel` fires.
  bool wait = false;
  CancelToken cancel;
};

// $KILN_HOST, else $BUILDKIT_HOST, else the first of the usual sockets that exists (the user's own
// $XDG_RUNTIME_DIR/kiln/kilnd.sock unless root; /run/kiln/kilnd.sock; BuildKit's), else BuildKit's.
std::string DefaultAddress();

// The daemon's socket at `path`, and in its errors what connect(2) says, where gRPC would only say
// that it is unavailable. kUnavailable when no daemon listens there.
absl::StatusOr<Fd> DialUnix(const std::string& path);

// A connection to one daemon, kilnd or buildkitd. Thread-safe.
class Connection {
 public:
  // Blocks until connected. kInvalidArgument for an address or certificate that cannot be used;
  // kUnavailable, with the reason and the address, when nobody answers in time.
  static absl::StatusOr<std::unique_ptr<Connection>> Open(const ConnectOptions& options);

  const std::string& address() const { return address_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  Connection(std::string address, std::shared_ptr<grpc::Channel> channel)
      : address_(std::move(address)), channel_(std::move(channel)) {}

  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace kiln::client
