#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/device/device_registry.h"
#include "daemon/executor/executor.h"

namespace pb {
class Op;
}

namespace kiln::daemon {

// What a pb.Op with an exec says, checked and with defaults filled in.
struct ExecPlan {
  struct Secret {
    std::string id;
    uint32_t uid = 0, gid = 0, mode = 0;
    bool optional = false;
  };
  enum class MountType { kBind, kSecret, kSsh, kCache, kTmpfs };
  enum class Sharing { kShared, kPrivate, kLocked };

  struct Mount {
    MountType type = MountType::kBind;
    int input = -1;  // -1: none
    bool has_output = false;
    bool readonly = false;
    bool is_root = false;
    std::string selector;    // clean and absolute; "/" is everything
    std::string dest;        // clean and absolute
    int64_t tmpfs_size = 0;  // 0: the kernel's default
    std::string cache_id;
    Sharing sharing = Sharing::kShared;
    Secret secret;  // of kSecret and kSsh
  };
  struct SecretEnv {
    std::string id, name;
    bool optional = false;
  };

  std::vector<std::string> args, env;  // env with proxy variables and PATH, without secrets
  std::string cwd;
  std::string user, hostname, cgroup_parent;
  std::vector<std::pair<std::string, std::string>> extra_hosts;
  std::vector<Ulimit> ulimits;
  bool remove_stubs_recursive = false;
  std::set<int> valid_exit_codes;
  NetworkMode network = NetworkMode::kDefault;
  SecurityMode security = SecurityMode::kSandbox;
  std::vector<SecretEnv> secret_env;
  std::vector<DeviceRequest> devices;
  std::vector<Mount> mounts;  // in the op's order
  // Of another machine than this one; empty: runs here.
  std::string foreign_architecture;
  std::string emulator;  // host path of a qemu for it; empty: the kernel must know what to do
};

// kInvalidArgument with the loader's texts (llb.md 1.4, rows 8 and 18; 2.2.1).
absl::StatusOr<ExecPlan> MakeExecPlan(const pb::Op& op);

// `process "ARGS" did not complete successfully`, quoted as Go's %q does.
std::string FailureText(const std::vector<std::string>& args);

}  // namespace kiln::daemon
