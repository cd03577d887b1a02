#include "daemon/rpc/address.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace kiln::daemon {

namespace {

absl::Status Invalid(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("listen address \"", text, "\": ", why));
}

absl::StatusOr<ListenAddress> ParseTcp(ListenAddress address, absl::string_view rest) {
  const size_t colon = rest.rfind(':');
  if (colon == absl::string_view::npos || colon + 1 == rest.size())
    return Invalid(address.text, "no port");
  absl::string_view host = rest.substr(0, colon);
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  } else if (absl::StrContains(host, ":")) {
    return Invalid(address.text, "an IPv6 host must be in brackets");
  }
  address.kind = ListenAddress::Kind::kTcp;
  address.host = std::string(host);
  address.port = std::string(rest.substr(colon + 1));
  return address;
}

}  // namespace

absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text) {
  ListenAddress address;
  address.text = std::string(text);
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "unix://")) {
    if (!absl::StartsWith(rest, "/")) return Invalid(text, "the path must be absolute");
    address.kind = ListenAddress::Kind::kUnix;
    address.path = std::string(rest);
    return address;
  }
  if (absl::ConsumePrefix(&rest, "tcp://")) return ParseTcp(std::move(address), rest);
  if (absl::ConsumePrefix(&rest, "fd://")) {
    address.kind = ListenAddress::Kind::kFd;
    if (!rest.empty() && (!absl::SimpleAtoi(rest, &address.fd) || address.fd < 0))
      return Invalid(text, "not a file descriptor number");
    return address;
  }
  if (absl::StartsWith(text, "npipe://"))
    return absl::UnimplementedError(absl::StrCat("listen address \"", text, "\": named pipes"));
  return Invalid(text, "must start with unix://, tcp:// or fd://");
}

}  // namespace kiln::daemon
