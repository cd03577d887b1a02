#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/executor/executor.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// [dns] of the daemon's configuration; what is empty is taken from the host.
struct DnsConfig {
  std::vector<std::string> nameservers, options, search_domains;
};

// Path of a file that exists as long as anybody holds this.
using HostFile = std::shared_ptr<const std::string>;

// The files bound over /etc/hosts and /etc/resolv.conf of steps. Equal content is one file, made
// once and kept: a step only looks it up. Thread-safe.
class HostFiles {
 public:
  // `dir` is the daemon's own and is emptied of files of earlier runs.
  static absl::StatusOr<std::unique_ptr<HostFiles>> Create(std::string dir, DnsConfig dns);

  // kInvalidArgument "failed to parse IP X".
  absl::StatusOr<HostFile> Hosts(absl::string_view hostname,
                                 absl::Span<const std::pair<std::string, std::string>> extra);
  // Follows changes of the host's file.
  absl::StatusOr<HostFile> ResolvConf(NetworkMode network);

 private:
  HostFiles(std::string dir, DnsConfig dns) : dir_(std::move(dir)), dns_(std::move(dns)) {}
  absl::StatusOr<HostFile> Keep(const std::string& content);

  const std::string dir_;
  const DnsConfig dns_;
  Mutex mu_;
  uint64_t next_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, HostFile> files_ ABSL_GUARDED_BY(mu_);  // by content
};

// Exposed for tests: the resolv.conf of a step from the host's.
std::string MakeResolvConf(absl::string_view host, const DnsConfig& dns, bool host_network);

}  // namespace kiln::daemon
