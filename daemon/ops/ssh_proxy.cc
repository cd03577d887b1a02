#include "daemon/ops/ssh_proxy.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kMaxConnections = 64;
constexpr int kFullPollMs = 50;

}  // namespace

struct SocketProxy::Connection {
  std::atomic<bool> done = false;
  std::thread thread;
};

absl::StatusOr<std::unique_ptr<SocketProxy>> SocketProxy::Start(const std::string& directory,
                                                                const std::string& name,
                                                                uint32_t uid, uint32_t gid,
                                                                uint32_t mode, Serve serve) {
  std::string path = absl::StrCat(directory, "/", name);
  const auto failed = [&](absl::string_view doing) {
    return ErrnoStatus(errno, absl::StrCat(doing, " ", path));
  };
  // sun_path has room for 107 bytes; the folder is therefore named by a descriptor.
  KILN_ASSIGN_OR_RETURN(const Fd folder, OpenFile(directory, O_PATH | O_DIRECTORY));
  const std::string short_path = absl::StrCat("/proc/self/fd/", folder.get(), "/", name);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (short_path.size() >= sizeof address.sun_path)
    return absl::InvalidArgumentError(absl::StrCat("socket name ", name, " is too long"));
  std::memcpy(address.sun_path, short_path.data(), short_path.size());
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return failed("make socket");
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return failed("bind socket");
  // From here on the file exists; the object removes it.
  std::unique_ptr<SocketProxy> proxy(
      new SocketProxy(std::move(path), std::move(listener), std::move(serve)));
  const std::string& made = proxy->path_;
  if (::chown(made.c_str(), uid, gid) != 0 || ::chmod(made.c_str(), mode) != 0)
    return ErrnoStatus(errno, absl::StrCat("own socket ", made));
  if (::listen(proxy->listener_.get(), 16) != 0)
    return ErrnoStatus(errno, absl::StrCat("listen on ", made));
  proxy->acceptor_ = std::thread([p = proxy.get()] { p->Accept(); });
  return proxy;
}

SocketProxy::SocketProxy(std::string path, Fd listener, Serve serve)
    : path_(std::move(path)), listener_(std::move(listener)), serve_(std::move(serve)) {}

SocketProxy::~SocketProxy() {
  stop_.Cancel(absl::CancelledError("the step has ended"));
  if (acceptor_.joinable()) acceptor_.join();
  for (const auto& connection : connections_) connection->thread.join();
  if (::unlink(path_.c_str()) != 0 && errno != ENOENT)
    spdlog::warn("remove socket {}: {}", path_, std::strerror(errno));
}

void SocketProxy::Accept() {
  const CancelToken stop = stop_.token();
  const absl::StatusOr<CancelFd> stopped = CancelFd::Make(stop);
  if (!stopped.ok()) {
    spdlog::warn("serve {}: {}", path_, stopped.status().ToString());
    return;
  }
  while (!stop.Cancelled()) {
    connections_.remove_if([](const std::unique_ptr<Connection>& one) {
      if (!one->done) return false;
      one->thread.join();
      return true;
    });
    const bool full = connections_.size() >= kMaxConnections;
    pollfd polled[2] = {{stopped->get(), POLLIN, 0}, {full ? -1 : listener_.get(), POLLIN, 0}};
    if (::poll(polled, 2, full ? kFullPollMs : -1) < 0 && errno != EINTR) return;
    if (full || polled[1].revents == 0) continue;
    Fd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection.valid()) continue;  // the peer is gone again
    auto served = std::make_unique<Connection>();
    Connection* const raw = served.get();
    connections_.push_back(std::move(served));
    raw->thread = std::thread([this, raw, stop, fd = std::move(connection)]() mutable {
      absl::Status status = serve_(std::move(fd), stop);
      if (!status.ok() && !stop.Cancelled())
        spdlog::warn("connection to {}: {}", path_, status.ToString());
      raw->done = true;
    });
  }
}

}  // namespace kiln::daemon
