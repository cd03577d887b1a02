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

absl::Status NotifyService(absl::string_view state) {
  const char* const name = getenv("NOTIFY_SOCKET");
  if (name == nullptr || *name == '\0') return absl::OkStatus();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t length = strlen(name);
  if ((*name != '/' && *name != '@') || length >= sizeof(address.sun_path))
    return absl::InvalidArgumentError(absl::StrCat("NOTIFY_SOCKET=", name, " is no socket's name"));
  memcpy(address.sun_path, name, length);
  if (*name == '@') address.sun_path[0] = '\0';  // in the abstract namespace
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const socklen_t size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  if (!socket.valid() ||
      sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<const sockaddr*>(&address), size) < 0)
    return ErrnoStatus(errno, absl::StrCat("tell ", name, " of ", state));
  return absl::OkStatus();
}

}  // namespace kiln::daemon
