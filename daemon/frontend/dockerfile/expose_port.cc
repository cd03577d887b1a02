// Ports as EXPOSE takes them: "[[ip:]host:]container[/protocol]".
#include <arpa/inet.h>

#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "daemon/frontend/dockerfile/dispatch.h"
#include "daemon/frontend/dockerfile/go_format.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

struct PortRange {
  int64_t first, last;
};

std::optional<int64_t> PortNumber(absl::string_view text) {
  const auto port = ParseInt(text);
  if (!port.ok() || *port < 0 || *port > 65535) return std::nullopt;
  return *port;
}

std::optional<PortRange> ParseRange(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> ends =
      absl::StrSplit(text, absl::MaxSplits('-', 1));
  const auto first = PortNumber(ends.first);
  if (!first) return std::nullopt;
  if (ends.first.size() == text.size() || ends.first == ends.second) {
    return PortRange{*first, *first};
  }
  const auto last = PortNumber(ends.second);
  if (!last || *last < *first) return std::nullopt;
  return PortRange{*first, *last};
}

bool IsIp(std::string text) {
  // IPv6 addresses may be in brackets, and may have a zone.
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  std::array<unsigned char, 16> address = {};
  return inet_pton(AF_INET, text.c_str(), address.data()) == 1 ||
         inet_pton(AF_INET6, text.c_str(), address.data()) == 1;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParsePort(const std::string& text, const LineRange& lines,
                                                   const Linter& lint) {
  const auto fail = [](auto... parts) {
    return absl::InvalidArgumentError(absl::StrCat(parts...));
  };
  std::vector<std::string> parts = absl::StrSplit(text, ':');
  std::string container = std::move(parts.back());
  parts.pop_back();
  std::string host, ip;
  if (!parts.empty()) {
    host = std::move(parts.back());
    parts.pop_back();
    ip = absl::StrJoin(parts, ":");
  }
  std::string protocol = "tcp";
  if (const size_t slash = container.find('/'); slash != std::string::npos) {
    if (slash + 1 < container.size()) protocol = container.substr(slash + 1);
    container.resize(slash);
  }
  const std::string kind = absl::AsciiStrToLower(protocol);
  if (container.empty()) return fail("invalid port: ", Quote(text), ": no port specified");
  if (kind != "tcp" && kind != "udp" && kind != "sctp") {
    return fail("invalid port: ", Quote(text), ": invalid proto: ", protocol);
  }
  if (protocol != kind) {
    lint.Report(
        rules::kExposeProtoCasing, lines,
        absl::StrCat("Defined protocol '", text, "' in EXPOSE instruction should be lowercase"));
  }
  if (!ip.empty() || !host.empty()) {
    lint.Report(rules::kExposeInvalidFormat, lines,
                absl::StrCat("EXPOSE instruction should not define an IP address or host-port "
                             "mapping, found '",
                             text, "'"));
  }
  if (!ip.empty() && !IsIp(ip)) return fail("invalid IP address: ", ip);
  const auto ports = ParseRange(container);
  if (!ports) return fail("invalid containerPort: ", container);
  if (!host.empty()) {
    const auto on_host = ParseRange(host);
    if (!on_host) return fail("invalid hostPort: ", host);
    const bool single = ports->first == ports->last;
    if (!single && ports->last - ports->first != on_host->last - on_host->first) {
      return fail("invalid ranges specified for container and host Ports: ", container, " and ",
                  host);
    }
  }
  std::vector<std::string> out;
  for (int64_t port = ports->first; port <= ports->last; ++port) {
    out.push_back(absl::StrCat(port, "/", kind));
  }
  return out;
}

}  // namespace kiln::daemon::dockerfile
