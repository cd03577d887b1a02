#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/config/sizes.h"
#include "daemon/registry/host_config.h"

namespace kiln::daemon {

// One rule of what to remove from the cache ([[worker.oci.gcpolicy]]).
struct GcPolicyConfig {
  bool all = false;
  std::vector<std::string> filters;
  absl::Duration keep_duration = absl::ZeroDuration();
  DiskSpace reserved, max_used, min_free;
};

// When the cache is too large. Without rules the defaults apply, with these limits if any is set.
struct GcConfig {
  bool enabled = true;
  DiskSpace reserved, max_used, min_free;
  std::vector<GcPolicyConfig> policies;
};

// What the daemon was told, by its command line and a buildkitd.toml. A value.
struct Config {
  bool help = false, version = false;  // only that is wanted

  bool debug = false;
  std::string root;                    // "" = the default for the user
  std::vector<std::string> addresses;  // empty = the default socket
  std::string group;                   // of unix sockets: name or number
  std::optional<uint32_t> uid, gid;    // of unix sockets
  uint32_t socket_mode = 0660;
  std::string tls_cert, tls_key, tls_ca;
  std::vector<std::string> entitlements;
  bool cdi_disabled = false;
  // Folders with files of the Container Device Interface; a later one counts more.
  std::vector<std::string> cdi_spec_dirs = {"/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"};
  std::vector<std::string> cdi_auto_allowed;  // devices and kinds that need no grant
  std::string log_format = "text", log_level;
  bool dockerfile_frontend = true, gateway_frontend = true;  // enabled
  // Whose images may run as frontends; empty = any.
  std::vector<std::string> frontend_repositories;

  std::map<std::string, std::string> labels;
  std::string snapshotter = "auto";
  std::string runtime_binary;
  std::string network_mode = "auto";
  std::string cni_config_path, cni_binary_dir, bridge_name, bridge_subnet;
  std::string cgroup_parent;
  int max_parallelism = 0;  // 0 = unlimited
  GcConfig gc;
  std::vector<std::string> dns_nameservers, dns_options, dns_search;
  RegistryConfig registries;
  int max_registry_concurrency = 0;  // requests to one registry at a time; 0 = the default

  // What was given and has no effect, each a sentence for the log.
  std::vector<std::string> warnings;
};

// Reads buildkitd's flags ("--root DIR", "--root=DIR", also with one dash) and the file that
// --config names, or the default one when it exists. The command line wins.
// kInvalidArgument names the flag or key and the reason.
absl::StatusOr<Config> LoadConfig(absl::Span<const std::string> args);

// Applies a buildkitd.toml. `name` is for messages.
absl::Status ApplyToml(absl::string_view text, absl::string_view name, Config* config);

// Text for --help.
std::string HelpText();

}  // namespace kiln::daemon
