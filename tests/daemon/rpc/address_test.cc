#include "daemon/rpc/address.h"

#include <gtest/gtest.h>

namespace kiln::daemon {
namespace {

TEST(ListenAddress, Parses) {
  const auto unix_address = ParseListenAddress("unix:///run/x.sock");
  ASSERT_TRUE(unix_address.ok());
  EXPECT_EQ(unix_address->path, "/run/x.sock");
  const auto tcp = ParseListenAddress("tcp://[::1]:1234");
  ASSERT_TRUE(tcp.ok());
  EXPECT_EQ(tcp->host, "::1");
  EXPECT_EQ(tcp->port, "1234");
  EXPECT_EQ(ParseListenAddress("tcp://:0")->host, "");
  EXPECT_EQ(ParseListenAddress("fd://")->fd, -1);
  EXPECT_EQ(ParseListenAddress("fd://7")->fd, 7);
}

struct BadAddress {
  const char* name;
  const char* text;
  absl::StatusCode want;
};
class ListenAddressRefuses : public testing::TestWithParam<BadAddress> {};

TEST_P(ListenAddressRefuses, NamesTheAddress) {
  const absl::Status status = ParseListenAddress(GetParam().text).status();
  EXPECT_EQ(status.code(), GetParam().want) << status;
  EXPECT_NE(std::string(status.message()).find(GetParam().text), std::string::npos) << status;
}

INSTANTIATE_TEST_SUITE_P(
    Addr, ListenAddressRefuses,
    testing::ValuesIn<BadAddress>({{"Relative", "unix://x", absl::StatusCode::kInvalidArgument},
                                   {"NoScheme", "/run/x", absl::StatusCode::kInvalidArgument},
                                   {"NoPort", "tcp://host", absl::StatusCode::kInvalidArgument},
                                   {"BareV6", "tcp://::1:80", absl::StatusCode::kInvalidArgument},
                                   {"BadFd", "fd://x", absl::StatusCode::kInvalidArgument},
                                   {"Pipe", "npipe://x", absl::StatusCode::kUnimplemented}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace kiln::daemon
