#include "daemon/rpc/listen_socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int kBacklog = 1024;
constexpr int kFirstPassedFd = 3;  // sd_listen_fds(3)

absl::Status Wrong(const ListenAddress& address, absl::string_view what, int error_number) {
  return ErrnoStatus(error_number, absl::StrCat("listen on ", address.text, ": ", what));
}

// Socket names are limited to 107 bytes: through a descriptor any path fits.
sockaddr_un NameThrough(int fd, absl::string_view base) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  const std::string text = absl::StrCat("/proc/self/fd/", fd, base.empty() ? "" : "/", base);
  strncpy(name.sun_path, text.c_str(), sizeof(name.sun_path) - 1);
  return name;
}

// True when a process accepts connections on the socket file.
bool IsServed(int dir_fd, const std::string& base) {
  const absl::StatusOr<Fd> file = OpenFileAt(dir_fd, base, O_PATH | O_NOFOLLOW);
  if (!file.ok()) return !absl::IsNotFound(file.status());
  const sockaddr_un name = NameThrough(file->get(), "");
  const Fd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return true;  // out of descriptors: do not risk stealing it
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0)
    return true;
  return errno == EAGAIN;  // its backlog is full
}

std::string TcpName(int fd) {
  sockaddr_storage storage;
  socklen_t length = sizeof(storage);
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0 ||
      getnameinfo(reinterpret_cast<sockaddr*>(&storage), length, host, sizeof(host), port,
                  sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "tcp://?";
  if (storage.ss_family == AF_INET6) return absl::StrCat("tcp://[", host, "]:", port);
  return absl::StrCat("tcp://", host, ":", port);
}

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<ListenSocket>>> ListenSocket::Open(
    const ListenAddress& address, const SocketOptions& options) {
  std::vector<std::unique_ptr<ListenSocket>> sockets;
  switch (address.kind) {
    case ListenAddress::Kind::kTcp:
      return OpenTcp(address);
    case ListenAddress::Kind::kUnix: {
      KILN_ASSIGN_OR_RETURN(auto socket, OpenUnix(address, options));
      sockets.push_back(std::move(socket));
      break;
    }
    case ListenAddress::Kind::kFd: {
      KILN_ASSIGN_OR_RETURN(auto socket, OpenInherited(address));
      sockets.push_back(std::move(socket));
      break;
    }
  }
  return sockets;
}

absl::StatusOr<std::vector<std::unique_ptr<ListenSocket>>> ListenSocket::OpenTcp(
    const ListenAddress& address) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(),
                                 address.port.c_str(), &hints, &found);
  if (failed != 0)
    return absl::InvalidArgumentError(
        absl::StrCat("listen on ", address.text, ": ", gai_strerror(failed)));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  std::vector<std::unique_ptr<ListenSocket>> sockets;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    Fd fd(socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                 info->ai_protocol));
    if (!fd.valid()) return Wrong(address, "socket", errno);
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    // Each family has its own socket, so "::" must not take IPv4 as well.
    if (info->ai_family == AF_INET6)
      setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd.get(), info->ai_addr, info->ai_addrlen) != 0) return Wrong(address, "bind", errno);
    if (::listen(fd.get(), kBacklog) != 0) return Wrong(address, "listen", errno);
    auto socket = std::unique_ptr<ListenSocket>(new ListenSocket(address, std::move(fd)));
    socket->name_ = TcpName(socket->fd());
    sockets.push_back(std::move(socket));
    if (address.port == "0") break;  // a second family would get another port
  }
  return sockets;
}

absl::StatusOr<std::unique_ptr<ListenSocket>> ListenSocket::OpenUnix(const ListenAddress& address,
                                                                     const SocketOptions& options) {
  const std::filesystem::path path(address.path);
  const std::string base = path.filename().string();
  if (base.empty()) return Wrong(address, "the path names a folder", EISDIR);
  std::error_code made;
  std::filesystem::create_directories(path.parent_path(), made);
  if (made) return Wrong(address, "make its folder", made.value());
  KILN_ASSIGN_OR_RETURN(Fd dir, OpenFile(path.parent_path().string(), O_RDONLY | O_DIRECTORY));

  // The lock decides between two of us that start at once, the probe finds any other server.
  KILN_ASSIGN_OR_RETURN(Fd lock, OpenFileAt(dir.get(), base + ".lock", O_RDWR | O_CREAT, 0600));
  const std::string in_use =
      absl::StrCat("listen on ", address.text, ": another daemon serves this socket");
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return absl::AlreadyExistsError(in_use);
  struct stat st;
  if (fstatat(dir.get(), base.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
    if (!S_ISSOCK(st.st_mode)) return Wrong(address, "a file that is no socket is there", EEXIST);
    if (IsServed(dir.get(), base)) return absl::AlreadyExistsError(in_use);
  }

  // Bound under another name and renamed, so that nobody can connect before mode and group are set.
  if (fstat(lock.get(), &st) != 0) return Wrong(address, "stat", errno);
  const std::string temporary = absl::StrCat(".kiln-", st.st_ino);  // one for each lock
  unlinkat(dir.get(), temporary.c_str(), 0);  // left by a killed daemon; we hold the lock
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Wrong(address, "socket", errno);
  const sockaddr_un name = NameThrough(dir.get(), temporary);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0)
    return Wrong(address, "bind", errno);
  auto fail = [&](absl::string_view what) {
    absl::Status status = Wrong(address, what, errno);
    unlinkat(dir.get(), temporary.c_str(), 0);
    return status;
  };
  if (fchownat(dir.get(), temporary.c_str(), static_cast<uid_t>(-1), options.gid, 0) != 0)
    return fail("set the group");
  if (fchmodat(dir.get(), temporary.c_str(), options.mode, 0) != 0) return fail("set the mode");
  if (::listen(fd.get(), kBacklog) != 0) return fail("listen");
  if (fstatat(dir.get(), temporary.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return fail("stat");
  if (renameat(dir.get(), temporary.c_str(), dir.get(), base.c_str()) != 0) return fail("rename");

  auto socket = std::unique_ptr<ListenSocket>(new ListenSocket(address, std::move(fd)));
  socket->name_ = address.text;
  socket->lock_ = std::move(lock);
  socket->dev_ = st.st_dev;
  socket->ino_ = st.st_ino;
  return socket;
}

absl::StatusOr<std::unique_ptr<ListenSocket>> ListenSocket::OpenInherited(
    const ListenAddress& address) {
  int fd = address.fd;
  if (fd < 0) {
    const char* count = getenv("LISTEN_FDS");
    const char* pid = getenv("LISTEN_PID");
    int passed = 0, owner = 0;
    if (count == nullptr || !absl::SimpleAtoi(count, &passed) || passed < 1 || pid == nullptr ||
        !absl::SimpleAtoi(pid, &owner) || owner != getpid())
      return absl::FailedPreconditionError(absl::StrCat(
          "listen on ", address.text,
          ": no sockets found via socket activation: was the service started by systemd?"));
    fd = kFirstPassedFd;
  }
  int listening = 0;
  socklen_t length = sizeof(listening);
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0)
    return Wrong(address, absl::StrCat("descriptor ", fd), errno);
  if (listening == 0)
    return absl::InvalidArgumentError(absl::StrCat("listen on ", address.text, ": descriptor ", fd,
                                                   " is not a listening socket"));
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
      fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
    return Wrong(address, "fcntl", errno);
  auto socket = std::unique_ptr<ListenSocket>(new ListenSocket(address, Fd(fd)));
  socket->name_ = absl::StrCat("fd://", fd);
  return socket;
}

ListenSocket::~ListenSocket() {
  struct stat st;
  if (ino_ != 0 && lstat(address_.path.c_str(), &st) == 0 && st.st_dev == dev_ && st.st_ino == ino_)
    unlink(address_.path.c_str());
  // The lock file stays: removing it would let two daemons hold two different locks.
}

}  // namespace kiln::daemon
