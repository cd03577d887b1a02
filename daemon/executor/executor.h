#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"

namespace kiln::daemon {

enum class NetworkMode { kDefault, kHost, kNone };
enum class SecurityMode { kSandbox, kInsecure };

struct ContainerMount {
  std::string dest;                  // absolute
  std::string source;                // host path; empty for tmpfs
  std::string type = "bind";         // "bind" or "tmpfs"
  std::vector<std::string> options;  // "ro", "nosuid", "size=…"
};

// A device node beside the usual ones. What is not said is taken from the host's node.
struct DeviceNode {
  std::string path;       // in the container
  std::string host_path;  // empty: as `path`
  std::string type;       // "c", "b", "u", "p"; empty: the host's, and its numbers
  int64_t major = 0, minor = 0;
  std::optional<uint32_t> mode, uid, gid;
  std::string access = "rwm";  // of the device cgroup's rule
};

// A program of the host that the runtime starts at a point of the container's life (OCI
// runtime-spec, POSIX-platform Hooks).
struct RuntimeHook {
  std::string point;  // "createContainer", …
  std::string path;
  std::vector<std::string> args, env;
  std::optional<int> timeout_seconds;
};

struct Ulimit {
  std::string name;
  int64_t soft = 0, hard = 0;
};

struct LinuxResources {
  int64_t memory_bytes = 0, memory_swap_bytes = 0;
  uint64_t cpu_shares = 0, cpu_period_us = 0;
  int64_t cpu_quota_us = 0;
  std::string cpuset_cpus = {}, cpuset_mems = {};
};

// Everything about one process to run (llb.md 2.2.4).
struct ProcessSpec {
  std::string id;  // unique; names the container, its cgroup and its bundle folder
  std::string rootfs;
  bool rootfs_readonly = false;
  std::vector<ContainerMount> mounts;  // in the order to be mounted
  std::vector<std::string> args, env;
  std::string cwd = "/";
  std::string user;  // as in pb.Meta; resolved in the rootfs
  std::string hostname;
  std::vector<std::pair<std::string, std::string>> extra_hosts;  // host, ip
  NetworkMode network = NetworkMode::kDefault;
  SecurityMode security = SecurityMode::kSandbox;
  std::vector<Ulimit> ulimits;
  std::string cgroup_parent;
  std::optional<LinuxResources> resources;
  std::vector<DeviceNode> devices;
  std::vector<RuntimeHook> hooks;
  std::vector<uint32_t> groups;  // more than those of `user`
  bool remove_stubs_recursive = false;
};

struct ExitInfo {
  int code = 0;  // 255 when unknown; 128 + signal when killed
  bool oom_killed = false;
  // Why the program could not be started, and never ran; `code` is what a shell would say.
  std::string start_failure = {};
};

// Takes output as it comes; stream 1 stdout, 2 stderr. May block (back-pressure). Thread-safe.
using OutputSink = std::function<void(int stream, absl::string_view data)>;

// Runs one process in a fresh container and waits for it. Thread-safe; blocking.
class Executor {
 public:
  virtual ~Executor() = default;
  // An exit code is a result, not an error; a start failure is told on stream 2, once, as well. On
  // cancel: SIGKILL, waits until the container, its cgroup and mounts are gone, returns the cause.
  virtual absl::StatusOr<ExitInfo> Run(const ProcessSpec& spec, const OutputSink& output,
                                       const CancelToken& cancel) = 0;
};

}  // namespace kiln::daemon
