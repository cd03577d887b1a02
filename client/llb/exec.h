#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/llb/constraints.h"
#include "client/llb/state.h"

namespace kiln::client::llb {

class ExecVertex;

enum class CacheSharing { kShared = 0, kPrivate = 1, kLocked = 2 };
enum class ContentCache { kDefault = 0, kOn = 1, kOff = 2 };

// A file system mounted into a command.
struct MountInfo {
  std::string target = {};
  State source = {};          // scratch: an empty directory
  std::string selector = {};  // a path inside `source`
  bool readonly = false;
  bool no_output = false;     // changes are dropped
  std::string cache_id = {};  // not empty: a cache mount of that name
  CacheSharing cache_sharing = CacheSharing::kShared;
  bool tmpfs = false;
  int64_t tmpfs_size_bytes = 0;  // 0: unlimited
  ContentCache content_cache = ContentCache::kDefault;
};

// A secret as a file, an environment variable, or both.
struct SecretInfo {
  std::string id = {};
  std::optional<std::string> target = {};  // path in the container
  std::optional<std::string> env = {};     // variable name
  bool optional = false;
  uint32_t uid = 0, gid = 0;
  uint32_t mode = 0400;
};

struct SshInfo {
  std::string id = {};      // "": the default agent
  std::string target = {};  // "": /run/buildkit/ssh_agent.N
  bool optional = false;
  uint32_t uid = 0, gid = 0;
  uint32_t mode = 0600;
};

struct CdiDevice {
  std::string name = {};
  bool optional = false;
};

struct ProxyEnv {
  std::string http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy;
};

// What is run and how, but for its file systems.
struct CommandInfo {
  std::vector<std::string> args = {};
  std::vector<SecretInfo> secrets = {};
  std::vector<SshInfo> ssh = {};
  std::vector<CdiDevice> cdi_devices = {};
  std::vector<int32_t> valid_exit_codes = {};  // empty: only 0
  std::optional<ProxyEnv> proxy_env = {};
  bool readonly_root = false;
  // The daemon sets the default PATH; without it the environment is exactly what was added.
  bool daemon_sets_path = false;
  absl::Status error = {};  // of the helper that made it; reported by Marshal
};

struct RunInfo : CommandInfo {
  std::vector<MountInfo> mounts = {};
  Constraints constraints = {};
};

// The command's words are given.
RunInfo Args(std::vector<std::string> args, Constraints constraints = {});
// The command's words are split by shell quoting rules, without a shell.
RunInfo Shlex(absl::string_view line, Constraints constraints = {});
// `sh -c line`, as a Dockerfile's RUN.
RunInfo Shell(absl::string_view line, Constraints constraints = {});

// The result of a command: its root, and the outputs of its mounts.
class ExecState : public State {
 public:
  ExecState(State root, std::shared_ptr<ExecVertex> vertex);

  const State& Root() const { return *this; }
  // Adds a mount; returns its contents after the run, with `mount.source`'s settings.
  State AddMount(MountInfo mount);
  // The contents of the mount at `target` after the run; scratch when there is none.
  State GetMount(absl::string_view target) const;

 private:
  std::shared_ptr<ExecVertex> vertex_;
};

}  // namespace kiln::client::llb
