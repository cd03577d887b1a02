#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/image/go_time.h"
#include "daemon/image/history.h"
#include "daemon/image/platform.h"

namespace kiln::daemon::dockerfile {

struct HealthcheckConfig {
  std::vector<std::string> test;
  int64_t interval_ns = 0, timeout_ns = 0, start_period_ns = 0, start_interval_ns = 0;
  int64_t retries = 0;
};

// A Docker image config (dockerfile.md 8.1). What it does not name is dropped, as by BuildKit.
struct DockerImage {
  std::optional<GoTime> created;
  std::string author;
  Platform platform;
  std::string rootfs_type;
  std::optional<std::vector<std::string>> diff_ids;  // absent is written as null
  std::vector<HistoryItem> history;

  std::string user;
  std::set<std::string> exposed_ports;
  std::vector<std::string> env;  // "key=value"
  std::vector<std::string> entrypoint, cmd;
  std::set<std::string> volumes;
  std::string working_dir;
  std::map<std::string, std::string> labels;
  std::string stop_signal;
  bool args_escaped = false;
  std::optional<HealthcheckConfig> healthcheck;
  std::vector<std::string> on_build;
  std::vector<std::string> shell;

  // The config of an empty file system.
  static DockerImage Scratch(const Platform& platform);
  // kInvalidArgument names the member that is not as it should be.
  static absl::StatusOr<DockerImage> Parse(absl::string_view json);
  // Byte for byte as Go writes it.
  std::string ToJson() const;

  // Replaces the variable in place, or adds it at the end.
  void SetEnv(absl::string_view key, absl::string_view value);
  bool HasEnv(absl::string_view key) const;
};

// The search path of images that set none.
inline constexpr absl::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

}  // namespace kiln::daemon::dockerfile
