#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Where to listen: one --addr.
struct ListenAddress {
  enum class Kind { kUnix, kTcp, kFd };
  Kind kind = Kind::kUnix;
  std::string text;  // as given, for messages
  std::string path;  // kUnix: absolute
  std::string host;  // kTcp: "" = every address
  std::string port;  // kTcp: number or service name; "0" picks a free one
  int fd = -1;       // kFd: -1 = the first one that systemd passed
};

// "unix:///path", "tcp://host:port", "fd://" or "fd://3". kInvalidArgument names the address and
// the reason; kUnimplemented for npipe.
absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text);

}  // namespace kiln::daemon
