#include "daemon/service_notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

ServiceNotifier::ServiceNotifier() {
  if (const char* const name = getenv("NOTIFY_SOCKET")) socket_ = name;
  unsetenv("NOTIFY_SOCKET");
}

absl::Status ServiceNotifier::Tell(absl::string_view state) const {
  if (socket_.empty()) return absl::OkStatus();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const bool abstract = socket_[0] == '@';
  if ((socket_[0] != '/' && !abstract) || socket_.size() >= sizeof(address.sun_path))
    return absl::InvalidArgumentError(
        absl::StrCat("NOTIFY_SOCKET=", socket_, " is no socket's name"));
  memcpy(address.sun_path, socket_.data(), socket_.size());
  if (abstract) address.sun_path[0] = '\0';
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const socklen_t size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  if (!socket.valid() ||
      sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<const sockaddr*>(&address), size) < 0)
    return ErrnoStatus(errno, absl::StrCat("tell ", socket_, " of ", state));
  return absl::OkStatus();
}

}  // namespace kiln::daemon
