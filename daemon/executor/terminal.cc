#include "daemon/executor/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

// One descriptor out of one message.
absl::StatusOr<Fd> ReceiveDescriptor(int socket) {
  char byte[256];
  iovec data = {byte, sizeof(byte)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return ErrnoStatus(errno, "receive the terminal");
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS ||
        part->cmsg_len < CMSG_LEN(sizeof(int)))
      continue;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(part), sizeof(fd));
    return Fd(fd);
  }
  return absl::InternalError("the OCI runtime sent no terminal");
}

// Waits until `fd` can be read.
absl::Status WaitReadable(int fd, int pidfd, int cancel_fd, const CancelToken& cancel) {
  while (true) {
    pollfd watched[] = {{fd, POLLIN, 0}, {pidfd, POLLIN, 0}, {cancel_fd, POLLIN, 0}};
    if (poll(watched, 3, -1) < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "wait for a terminal");
    }
    if (watched[0].revents != 0) return absl::OkStatus();
    if (watched[2].revents != 0) return cancel.status();
    if (watched[1].revents != 0)
      return absl::UnavailableError("the OCI runtime ended without sending a terminal");
  }
}

}  // namespace

absl::StatusOr<TerminalPair> TerminalPair::Open() {
  TerminalPair pair;
  pair.ours = Fd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pair.ours.valid()) return ErrnoStatus(errno, "open a terminal");
  if (grantpt(pair.ours.get()) != 0 || unlockpt(pair.ours.get()) != 0)
    return ErrnoStatus(errno, "unlock a terminal");
  char name[64];
  if (const int error = ptsname_r(pair.ours.get(), name, sizeof(name)); error != 0)
    return ErrnoStatus(error, "name a terminal");
  pair.theirs = Fd(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pair.theirs.valid()) return ErrnoStatus(errno, absl::StrCat("open ", name));
  return pair;
}

absl::Status SetTerminalSize(int terminal, int rows, int columns) {
  if (rows < 0 || columns < 0 || rows > UINT16_MAX || columns > UINT16_MAX)
    return absl::InvalidArgumentError(
        absl::StrCat("invalid terminal size ", rows, " rows, ", columns, " columns"));
  winsize size = {};
  size.ws_row = static_cast<uint16_t>(rows);
  size.ws_col = static_cast<uint16_t>(columns);
  if (ioctl(terminal, TIOCSWINSZ, &size) != 0) return ErrnoStatus(errno, "resize a terminal");
  return absl::OkStatus();
}

absl::StatusOr<ConsoleSocket> ConsoleSocket::Listen(const std::string& folder, std::string name) {
  KILN_ASSIGN_OR_RETURN(Fd dir, OpenFile(folder, O_PATH | O_DIRECTORY));
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener.valid()) return ErrnoStatus(errno, "open a console socket");
  // By the folder's descriptor: its path may be longer than an address can be.
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = absl::StrCat("/proc/self/fd/", dir.get(), "/", name);
  if (path.size() >= sizeof(address.sun_path))
    return absl::InvalidArgumentError(absl::StrCat("console socket name too long: ", name));
  std::memcpy(address.sun_path, path.data(), path.size());
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener.get(), 1) != 0)
    return ErrnoStatus(errno, absl::StrCat("listen on console socket ", folder, "/", name));
  return ConsoleSocket(std::move(dir), std::move(name), std::move(listener));
}

ConsoleSocket::~ConsoleSocket() {
  if (folder_.valid()) unlinkat(folder_.get(), name_.c_str(), 0);
}

absl::StatusOr<Fd> ConsoleSocket::Receive(int pidfd, const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const CancelFd cancelled, CancelFd::Make(cancel));
  KILN_RETURN_IF_ERROR(WaitReadable(listener_.get(), pidfd, cancelled.get(), cancel));
  const Fd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection.valid()) return ErrnoStatus(errno, "accept a terminal");
  KILN_RETURN_IF_ERROR(WaitReadable(connection.get(), pidfd, cancelled.get(), cancel));
  return ReceiveDescriptor(connection.get());
}

}  // namespace kiln::daemon
