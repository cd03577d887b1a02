#include "store/base/unix_socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln {

absl::StatusOr<Fd> ConnectUnix(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    return absl::InvalidArgumentError(absl::StrCat("socket path is too long: ", path));
  path.copy(address.sun_path, path.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return ErrnoStatus(errno, absl::StrCat("connect to unix://", path));
  return fd;
}

}  // namespace kiln
