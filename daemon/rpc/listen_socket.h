#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/rpc/address.h"
#include "store/base/fd.h"

namespace kiln::daemon {

// How a unix socket is to appear.
struct SocketOptions {
  mode_t mode = 0660;
  gid_t gid = static_cast<gid_t>(-1);  // -1: leave
};

// A bound, listening, non-blocking, close-on-exec socket. Removes its socket file at the end,
// unless somebody replaced it.
class ListenSocket {
 public:
  // Opens one address; a host name may stand for several sockets. A unix socket that another
  // process serves is never taken over: kAlreadyExists. Its folder is made if absent. It appears
  // at its path with mode and group already set.
  static absl::StatusOr<std::vector<std::unique_ptr<ListenSocket>>> Open(
      const ListenAddress& address, const SocketOptions& options);

  ~ListenSocket();
  ListenSocket(const ListenSocket&) = delete;
  ListenSocket& operator=(const ListenSocket&) = delete;

  int fd() const { return fd_.get(); }
  const ListenAddress& address() const { return address_; }
  // "unix:///path" or "tcp://127.0.0.1:1234" with the port that was picked.
  const std::string& name() const { return name_; }

 private:
  ListenSocket(ListenAddress address, Fd fd) : address_(std::move(address)), fd_(std::move(fd)) {}
  static absl::StatusOr<std::vector<std::unique_ptr<ListenSocket>>> OpenTcp(
      const ListenAddress& address);
  static absl::StatusOr<std::unique_ptr<ListenSocket>> OpenUnix(const ListenAddress& address,
                                                                const SocketOptions& options);
  static absl::StatusOr<std::unique_ptr<ListenSocket>> OpenInherited(const ListenAddress& address);

  const ListenAddress address_;
  Fd fd_;
  Fd lock_;  // held while the socket file is ours
  std::string name_;
  dev_t dev_ = 0;  // of the socket file; ino_ 0: none to remove
  ino_t ino_ = 0;
};

}  // namespace kiln::daemon
