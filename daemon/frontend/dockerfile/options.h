#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/llb/constraints.h"
#include "client/llb/source.h"
#include "client/llb/state.h"
#include "daemon/frontend/dockerfile/lint.h"
#include "daemon/frontend/frontend_client.h"
#include "daemon/frontend/sbom_scan.h"
#include "daemon/image/platform.h"

namespace kiln::daemon::dockerfile {

// The attributes of a build (dockerfile.md 4), read and checked.
struct Options {
  std::map<std::string, std::string> build_args, labels;
  std::string target;                      // "": the last stage
  std::vector<Platform> build_platforms;   // at least one
  std::vector<Platform> target_platforms;  // empty: the first that is built on
  bool multi_platform = false;

  // Which stages run even when a result for them is known.
  std::optional<std::set<std::string>> no_cache;  // lower case names; an empty set: all

  client::llb::ResolveMode resolve_mode = client::llb::ResolveMode::kUnset;
  std::string resolve_mode_name = "default";  // as ImageRequest wants it

  // For every RUN.
  std::vector<client::llb::HostIp> extra_hosts;
  std::vector<client::llb::Ulimit> ulimits;
  std::optional<client::llb::LinuxResources> resources;
  client::llb::NetMode network = client::llb::NetMode::kSandbox;
  int64_t shm_size_bytes = 0;
  std::string cgroup_parent, hostname, cache_mount_namespace;

  std::vector<FrontendClient::Solve::CacheImport> cache_imports;
  std::optional<LintConfig> lint;  // replaces the check directive
  std::optional<SbomOptions> sbom;

  bool IgnoresCache(const std::string& stage_name) const;
};

// kInvalidArgument in the words that clients know.
absl::StatusOr<Options> ParseOptions(const FrontendClient& client);

// "host=ip,…"
absl::StatusOr<std::vector<client::llb::HostIp>> ParseExtraHosts(const std::string& text);
// "name=soft[:hard],…"
absl::StatusOr<std::vector<client::llb::Ulimit>> ParseUlimits(const std::string& text);
// `memory`, `memswap`, `cpushares` and so on; nullopt when none is there.
absl::StatusOr<std::optional<client::llb::LinuxResources>> ParseResources(
    const std::map<std::string, std::string>& opts);

}  // namespace kiln::daemon::dockerfile
