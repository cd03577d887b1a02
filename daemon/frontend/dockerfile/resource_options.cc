// The limits of RUN steps among the options.
#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/frontend/dockerfile/go_format.h"
#include "daemon/frontend/dockerfile/options.h"
#include "daemon/frontend/dockerfile/syntax/csv.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

using client::llb::HostIp;
using client::llb::LinuxResources;
using client::llb::Ulimit;

// The canonical spelling; "" for what is no address.
std::string CanonicalIp(const std::string& text) {
  std::array<char, INET6_ADDRSTRLEN> out = {};
  std::array<unsigned char, 16> address = {};
  for (const int family : {AF_INET, AF_INET6}) {
    if (inet_pton(family, text.c_str(), address.data()) == 1) {
      return inet_ntop(family, address.data(), out.data(), out.size());
    }
  }
  return "";
}

absl::StatusOr<Ulimit> ParseUlimit(const std::string& text) {
  static constexpr std::array<absl::string_view, 15> kNames = {
      "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue", "nice",
      "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack"};
  const auto fail = [](auto... parts) {
    return absl::InvalidArgumentError(absl::StrCat(parts...));
  };
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return fail("invalid ulimit argument: ", text);
  Ulimit limit;
  limit.name = text.substr(0, equals);
  if (std::find(kNames.begin(), kNames.end(), limit.name) == kNames.end()) {
    return fail("invalid ulimit type: ", limit.name);
  }
  const std::string values = text.substr(equals + 1);
  const std::vector<std::string> parts = absl::StrSplit(values, ':');
  if (parts.size() > 2) {
    return fail("too many limit value arguments - ", values,
                ", can only have up to two, `soft[:hard]`");
  }
  KILN_ASSIGN_OR_RETURN(limit.hard, ParseInt(parts.back()));
  KILN_ASSIGN_OR_RETURN(limit.soft, ParseInt(parts.front()));
  constexpr absl::string_view kOrder =
      "ulimit soft limit must be less than or equal to hard limit: ";
  if (limit.hard == -1) return limit;
  if (limit.soft == -1) return fail(kOrder, "soft: -1 (unlimited), hard: ", limit.hard);
  if (limit.soft > limit.hard) return fail(kOrder, limit.soft, " > ", limit.hard);
  return limit;
}

// "0-3,7"
absl::Status CheckCpuSet(const std::string& text) {
  constexpr int64_t kMaxCpu = 8192;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    part = absl::StripAsciiWhitespace(part);
    if (part.empty()) continue;
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    const bool range = ends.first.size() < part.size();
    const auto low = ParseInt(absl::StripAsciiWhitespace(ends.first));
    const auto high = range ? ParseInt(absl::StripAsciiWhitespace(ends.second)) : low;
    const char* kind = range ? "range" : "element";
    if (!low.ok() || !high.ok() || *low < 0 || *high < *low) {
      return absl::InvalidArgumentError(absl::StrCat("invalid cpuset ", kind, " ", Quote(part)));
    }
    if (*high > kMaxCpu) {
      return absl::InvalidArgumentError(
          absl::StrCat("cpuset ", kind, " ", Quote(part), " exceeds maximum ", kMaxCpu));
    }
  }
  return absl::OkStatus();
}

// Reads limits from the options; remembers whether any was there.
class LimitReader {
 public:
  explicit LimitReader(const std::map<std::string, std::string>& opts) : opts_(opts) {}

  absl::Status Signed(const char* key, bool allow_minus_one, int64_t* out) {
    return Read(key, [&](const std::string& text) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(*out, ParseInt(text));
      if (*out > 0 || (allow_minus_one && *out == -1)) return absl::OkStatus();
      return absl::OutOfRangeError(allow_minus_one ? "must be -1 (unlimited) or > 0"
                                                   : "must be > 0");
    });
  }
  absl::Status Unsigned(const char* key, uint64_t* out) {
    return Read(key, [&](const std::string& text) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(*out, ParseUint(text));
      return *out > 0 ? absl::OkStatus() : absl::OutOfRangeError("must be > 0");
    });
  }
  absl::Status CpuSet(const char* key, std::string* out) {
    return Read(key, [&](const std::string& text) {
      *out = text;
      return CheckCpuSet(text);
    });
  }
  bool any() const { return any_; }

 private:
  template <typename Parse>
  absl::Status Read(const char* key, Parse parse) {
    const auto found = opts_.find(key);
    if (found == opts_.end() || found->second.empty()) return absl::OkStatus();
    any_ = true;
    const absl::Status status = parse(found->second);
    if (status.ok()) return status;
    return absl::InvalidArgumentError(
        absl::StrCat("invalid ", key, " value: ", found->second, ": ", status.message()));
  }

  const std::map<std::string, std::string>& opts_;
  bool any_ = false;
};

}  // namespace

absl::StatusOr<std::vector<HostIp>> ParseExtraHosts(const std::string& text) {
  std::vector<HostIp> hosts;
  if (text.empty()) return hosts;
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> fields, SplitCsv(text));
  for (const std::string& field : fields) {
    const std::string lower = absl::AsciiStrToLower(field);
    const size_t equals = lower.find('=');
    if (equals == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("invalid key-value pair ", field));
    }
    const std::string value = lower.substr(equals + 1);
    HostIp host{lower.substr(0, equals), CanonicalIp(value)};
    if (host.ip.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("failed to parse IP ", value));
    }
    hosts.push_back(std::move(host));
  }
  return hosts;
}

absl::StatusOr<std::vector<Ulimit>> ParseUlimits(const std::string& text) {
  std::vector<Ulimit> limits;
  if (text.empty()) return limits;
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> fields, SplitCsv(text));
  for (const std::string& field : fields) {
    KILN_ASSIGN_OR_RETURN(Ulimit limit, ParseUlimit(field));
    limits.push_back(std::move(limit));
  }
  return limits;
}

absl::StatusOr<std::optional<LinuxResources>> ParseResources(
    const std::map<std::string, std::string>& opts) {
  LinuxResources limits;
  LimitReader reader(opts);
  KILN_RETURN_IF_ERROR(reader.Signed("memory", false, &limits.memory));
  KILN_RETURN_IF_ERROR(reader.Signed("memswap", true, &limits.memory_swap));
  KILN_RETURN_IF_ERROR(reader.Unsigned("cpushares", &limits.cpu_shares));
  KILN_RETURN_IF_ERROR(reader.Unsigned("cpuperiod", &limits.cpu_period));
  KILN_RETURN_IF_ERROR(reader.Signed("cpuquota", false, &limits.cpu_quota));
  KILN_RETURN_IF_ERROR(reader.CpuSet("cpusetcpus", &limits.cpuset_cpus));
  KILN_RETURN_IF_ERROR(reader.CpuSet("cpusetmems", &limits.cpuset_mems));
  if (!reader.any()) return std::nullopt;
  return limits;
}

}  // namespace kiln::daemon::dockerfile
