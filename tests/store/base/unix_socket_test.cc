#include "store/base/unix_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace kiln {
namespace {

class UnixSocketTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(dir_.data()), nullptr); }
  ~UnixSocketTest() override { std::filesystem::remove_all(dir_); }

  std::string dir_ = "/tmp/kiln-unix-socket-test-XXXXXX";
};

TEST_F(UnixSocketTest, ConnectsToWhoListens) {
  const std::string path = dir_ + "/s";
  EXPECT_EQ(ConnectUnix(path).status().code(), absl::StatusCode::kNotFound);
  const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  // Bound, but nobody listens.
  const absl::Status refused = ConnectUnix(path).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("connect to unix://" + path));
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  const absl::StatusOr<Fd> connected = ConnectUnix(path);
  ASSERT_TRUE(connected.ok()) << connected.status();
  const Fd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_EQ(::write(connected->get(), "x", 1), 1);
  char got = 0;
  EXPECT_EQ(::read(accepted.get(), &got, 1), 1);
  EXPECT_EQ(got, 'x');
}

TEST_F(UnixSocketTest, PathThatDoesNotFitIsNamed) {
  const std::string longest(sizeof(sockaddr_un::sun_path) - 1, 'x');
  EXPECT_EQ(ConnectUnix(longest).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ConnectUnix(longest + "x").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kiln
