#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/llb/constraints.h"
#include "client/llb/definition.h"
#include "client/llb/environment.h"
#include "client/llb/vertex.h"

namespace kiln::client::llb {

class ExecState;
class FileAction;
struct RunInfo;

enum class NetMode { kSandbox = 0, kHost = 1, kNone = 2 };
enum class SecurityMode { kSandbox = 0, kInsecure = 1 };

struct HostIp {
  std::string host;
  std::string ip;
};

struct Ulimit {
  std::string name;  // "nofile", "nproc", …
  int64_t soft = 0;
  int64_t hard = 0;
};

// A file system in a graph, with the settings that later commands on it inherit. A value: every
// method returns a changed copy. Copies are cheap. A graph is built by one thread.
//
// The bytes of every op equal those that BuildKit's Go client writes for the same graph, so that
// both find the same cache records.
class State {
 public:
  // The empty file system.
  State() = default;
  explicit State(Output output) : output_(std::move(output)) { AdoptPlatform(); }

  State AddEnv(absl::string_view key, absl::string_view value) const&;
  // Without a copy of what is set, where nothing else refers to it.
  State AddEnv(absl::string_view key, absl::string_view value) &&;
  // Relative to the current directory unless absolute.
  State Dir(absl::string_view path) const;
  State User(absl::string_view user) const;
  State Hostname(absl::string_view hostname) const;
  State Network(NetMode mode) const;
  State Security(SecurityMode mode) const;
  State AddExtraHost(absl::string_view host, absl::string_view ip) const;
  State AddUlimit(Ulimit limit) const;
  State CgroupParent(absl::string_view parent) const;
  State WithPlatform(const Platform& platform) const;

  // Runs a command with this state as its root.
  ExecState Run(RunInfo info) const;
  // Changes files without running anything.
  State File(FileAction action, Constraints constraints = {}) const;
  // The same settings on another file system.
  State WithOutput(Output output) const;

  // The whole graph. `defaults` hold for every op that says nothing else; without a platform there,
  // the machine's own. kInvalidArgument names what is wrong with which op.
  absl::StatusOr<Definition> Marshal(const Constraints& defaults = {}) const;

  const Output& output() const { return output_; }
  bool scratch() const { return !output_; }
  // The working directory; "/" when never set.
  const std::string& dir() const { return settings().dir; }
  // In the order of their last setting.
  const Environment::Variables& env() const { return settings().env.variables(); }
  // Null: the default of the definition.
  const Platform* platform() const { return settings().platform.get(); }

 private:
  friend class ExecVertex;
  friend class FileVertex;

  struct Settings {
    Environment env;
    std::string dir = "/";
    std::string user;
    std::string hostname;
    std::string cgroup_parent;
    std::vector<HostIp> extra_hosts;
    std::vector<Ulimit> ulimits;
    NetMode network = NetMode::kSandbox;
    SecurityMode security = SecurityMode::kSandbox;
    std::shared_ptr<const Platform> platform;
  };
  const Settings& settings() const;
  Settings& MutableSettings();
  void AdoptPlatform();

  Output output_;
  std::shared_ptr<Settings> settings_;  // null means all defaults; one that is shared stays
};

// Overlays the file systems in order; scratch ones are left out, and one alone is returned as is.
State Merge(const std::vector<State>& inputs, Constraints constraints = {});

// What changed from `lower` to `upper`.
State Diff(const State& lower, const State& upper, Constraints constraints = {});

}  // namespace kiln::client::llb
