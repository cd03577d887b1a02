#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"

namespace kiln::daemon {

// A unix socket that hands each connection to `serve` on a thread of its own, at most 64 at a time
// (more wait in the backlog). The destructor closes the socket, cancels the token that `serve` got
// and waits for every thread.
class SocketProxy {
 public:
  using Serve = std::function<absl::Status(Fd connection, const CancelToken& cancel)>;

  // Makes the socket `directory`/`name` with that owner and mode. The errors name the path.
  static absl::StatusOr<std::unique_ptr<SocketProxy>> Start(const std::string& directory,
                                                            const std::string& name, uint32_t uid,
                                                            uint32_t gid, uint32_t mode,
                                                            Serve serve);
  ~SocketProxy();
  SocketProxy(const SocketProxy&) = delete;
  SocketProxy& operator=(const SocketProxy&) = delete;

  const std::string& path() const { return path_; }

 private:
  struct Connection;
  SocketProxy(std::string path, Fd listener, Serve serve);
  void Accept();

  const std::string path_;
  const Fd listener_;
  const Serve serve_;
  CancelSource stop_;
  std::list<std::unique_ptr<Connection>> connections_;  // of the accepting thread
  std::thread acceptor_;
};

}  // namespace kiln::daemon
