#include "daemon/executor/host_files.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kHostResolvConf[] = "/etc/resolv.conf";
// Where systemd-resolved keeps the real servers, when /etc/resolv.conf names only its stub.
constexpr char kSystemdResolvConf[] = "/run/systemd/resolve/resolv.conf";
constexpr size_t kMaxHostFile = 1 << 20;
constexpr size_t kMaxKept = 256;
// Nothing better is known when the host has none that a container could reach.
constexpr const char* kFallbackNameservers[] = {"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888",
                                                "2001:4860:4860::8844"};

bool ParsesAsIp(const std::string& text) {
  unsigned char buffer[sizeof(in6_addr)];
  return ::inet_pton(AF_INET, text.c_str(), buffer) == 1 ||
         ::inet_pton(AF_INET6, text.c_str(), buffer) == 1;
}

bool IsLoopback(absl::string_view address) {
  return absl::StartsWith(address, "127.") || address == "::1";
}

struct ResolvConf {
  std::vector<std::string> nameservers, search, options, other;
};

ResolvConf Parse(absl::string_view text) {
  ResolvConf out;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#' || words[0][0] == ';') continue;
    const std::vector<std::string> values(words.begin() + 1, words.end());
    if (words[0] == "nameserver") {
      if (!values.empty()) out.nameservers.push_back(values[0]);
    } else if (words[0] == "search" || words[0] == "domain") {
      out.search = values;  // the last line counts (resolv.conf(5))
    } else if (words[0] == "options") {
      out.options.insert(out.options.end(), values.begin(), values.end());
    } else {
      out.other.emplace_back(line);
    }
  }
  return out;
}

}  // namespace

std::string MakeResolvConf(absl::string_view host, const DnsConfig& dns, bool host_network) {
  ResolvConf conf = Parse(host);
  if (!dns.nameservers.empty()) conf.nameservers = dns.nameservers;
  if (!dns.search_domains.empty()) conf.search = dns.search_domains;
  if (!dns.options.empty()) conf.options = dns.options;
  if (!host_network || conf.nameservers.empty()) {
    std::vector<std::string> reachable;
    for (const std::string& one : conf.nameservers)
      if (!IsLoopback(one) || !dns.nameservers.empty()) reachable.push_back(one);
    if (reachable.empty())
      reachable.assign(std::begin(kFallbackNameservers), std::end(kFallbackNameservers));
    conf.nameservers = std::move(reachable);
  }
  std::string out;
  for (const std::string& one : conf.nameservers) absl::StrAppend(&out, "nameserver ", one, "\n");
  if (!conf.search.empty()) absl::StrAppend(&out, "search ", absl::StrJoin(conf.search, " "), "\n");
  if (!conf.options.empty())
    absl::StrAppend(&out, "options ", absl::StrJoin(conf.options, " "), "\n");
  for (const std::string& one : conf.other) absl::StrAppend(&out, one, "\n");
  return out;
}

absl::StatusOr<std::unique_ptr<HostFiles>> HostFiles::Create(std::string dir, DnsConfig dns) {
  for (const std::string& one : dns.nameservers)
    if (!ParsesAsIp(one))
      return absl::InvalidArgumentError(absl::StrCat("bad nameserver address ", one));
  std::error_code error;
  std::filesystem::remove_all(dir, error);
  if (!std::filesystem::create_directories(dir, error) && error)
    return absl::UnknownError(absl::StrCat("make directory ", dir, ": ", error.message()));
  return std::unique_ptr<HostFiles>(new HostFiles(std::move(dir), std::move(dns)));
}

absl::StatusOr<HostFile> HostFiles::Keep(const std::string& content) {
  MutexLock lock(&mu_);
  auto it = files_.find(content);
  if (it != files_.end()) return it->second;
  // Steps with hosts of their own would pile up; files in use live on with their holders.
  if (files_.size() >= kMaxKept) files_.clear();
  // No sync: the next start makes them anew. Files are few, so the write may hold the lock.
  HostFile file(new std::string(absl::StrCat(dir_, "/", ++next_)), [](const std::string* path) {
    (void)::unlink(path->c_str());  // or the next start does it
    delete path;
  });
  absl::Status written = [&]() -> absl::Status {
    KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(*file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
    if (::fchmod(fd.get(), 0644) != 0) return ErrnoStatus(errno, absl::StrCat("chmod ", *file));
    KILN_RETURN_IF_ERROR(WriteAll(fd.get(), content));
    return fd.Close();
  }();
  KILN_RETURN_IF_ERROR(Annotate(written, absl::StrCat("write ", *file)));
  files_.emplace(content, file);
  return file;
}

absl::StatusOr<HostFile> HostFiles::Hosts(
    absl::string_view hostname, absl::Span<const std::pair<std::string, std::string>> extra) {
  std::string content =
      absl::StrCat("127.0.0.1\tlocalhost ", hostname.empty() ? "buildkitsandbox" : hostname,
                   "\n::1\tlocalhost ip6-localhost ip6-loopback\n");
  for (const auto& [host, ip] : extra) {
    if (!ParsesAsIp(ip)) return absl::InvalidArgumentError(absl::StrCat("failed to parse IP ", ip));
    if (host.find_first_of("\n\r") != std::string::npos)
      return absl::InvalidArgumentError("extra host name contains a line break");
    absl::StrAppend(&content, ip, "\t", host, "\n");
  }
  return Keep(content);
}

absl::StatusOr<HostFile> HostFiles::ResolvConf(NetworkMode network) {
  const bool host_network = network == NetworkMode::kHost;
  std::string host = ReadFileToString(kHostResolvConf, kMaxHostFile).value_or("");
  const std::vector<std::string> nameservers = Parse(host).nameservers;
  if (!host_network && nameservers.size() == 1 && nameservers[0] == "127.0.0.53") {
    absl::StatusOr<std::string> real = ReadFileToString(kSystemdResolvConf, kMaxHostFile);
    if (real.ok()) host = *std::move(real);
  }
  return Keep(MakeResolvConf(host, dns_, host_network));
}

}  // namespace kiln::daemon
