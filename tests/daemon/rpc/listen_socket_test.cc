#include "daemon/rpc/listen_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/daemon/rpc/temp_dir.h"

namespace kiln::daemon {
namespace {

ListenAddress Unix(const std::string& path) { return *ParseListenAddress("unix://" + path); }

TEST(ListenSocket, AppearsWithModeAndGroupAndGoes) {
  TempDir dir;
  const std::string path = dir.File("deep/er/k.sock");
  SocketOptions options;
  options.mode = 0640;
  options.gid = getgid();
  {
    auto sockets = ListenSocket::Open(Unix(path), options);
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    struct stat st;
    ASSERT_EQ(lstat(path.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0640u);
    EXPECT_EQ(st.st_gid, getgid());
    EXPECT_EQ(sockets->front()->name(), "unix://" + path);
  }
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST(ListenSocket, NeverTakesALiveSocket) {
  TempDir dir;
  const std::string path = dir.File("k.sock");
  auto first = ListenSocket::Open(Unix(path), {});
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(ListenSocket::Open(Unix(path), {}).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(access(path.c_str(), F_OK), 0);

  // Another server, which knows nothing of our lock.
  const std::string other = dir.File("other.sock");
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  strncpy(name.sun_path, other.c_str(), sizeof(name.sun_path) - 1);
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
  ASSERT_EQ(listen(fd.get(), 1), 0);
  EXPECT_EQ(ListenSocket::Open(Unix(other), {}).status().code(), absl::StatusCode::kAlreadyExists);
  // Once it died without cleaning up, its socket file is replaced.
  fd.Reset();
  EXPECT_TRUE(ListenSocket::Open(Unix(other), {}).ok());
}

TEST(ListenSocket, NeverReplacesAFile) {
  TempDir dir;
  const std::string path = dir.File("precious");
  ASSERT_TRUE(WriteFileAtomic(path, "data").ok());
  EXPECT_FALSE(ListenSocket::Open(Unix(path), {}).ok());
  EXPECT_EQ(*ReadFileToString(path), "data");
}

TEST(ListenSocket, PathLongerThanASocketName) {
  TempDir dir;
  const std::string path = dir.File(std::string(90, 'a') + "/" + std::string(90, 'b'));
  const auto sockets = ListenSocket::Open(Unix(path), {});
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
}

TEST(ListenSocket, TcpTellsThePortItPicked) {
  const auto sockets = ListenSocket::Open(*ParseListenAddress("tcp://127.0.0.1:0"), {});
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_EQ(sockets->front()->name().rfind("tcp://127.0.0.1:", 0), 0u);
  EXPECT_NE(sockets->front()->name(), "tcp://127.0.0.1:0");
}

TEST(ListenSocket, InheritedMustListen) {
  TempDir dir;
  auto outer = ListenSocket::Open(Unix(dir.File("k.sock")), {});
  const int copy = dup(outer->front()->fd());
  EXPECT_TRUE(ListenSocket::Open(*ParseListenAddress(absl::StrCat("fd://", copy)), {}).ok());
  Fd plain(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(ListenSocket::Open(*ParseListenAddress(absl::StrCat("fd://", plain.get())), {})
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ListenSocket::Open(*ParseListenAddress("fd://"), {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace kiln::daemon
