#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "daemon/executor/cgroup.h"
#include "daemon/executor/executor.h"
#include "daemon/executor/user.h"

namespace kiln::daemon {

// What the executor found out about a step beside its ProcessSpec.
struct OciParameters {
  ProcessUser user;
  std::string cwd;          // absolute
  std::string cgroup_path;  // linux.cgroupsPath
  std::string hosts_file, resolv_conf_file;
  std::string network_namespace;      // path to join; empty with own_network false: the host's
  bool own_network = false;           // a new, empty one
  bool cgroup_namespace = false;      // cgroup v2 only
  bool compiled_seccomp = false;      // the runtime is crun, which takes a BPF program
  bool memory_limit_outside = false;  // cgroup v1: StepCgroup applies it
  bool terminal = false;              // the process gets a terminal of its own
};

// The text of config.json (OCI runtime-spec 1.0) for one step: Docker's namespaces, capabilities,
// masked paths and device rules, or the opened-up form of SecurityMode::kInsecure (llb.md 2.2.4).
// kInvalidArgument for text that JSON or exec(2) cannot carry, named.
absl::StatusOr<std::string> MakeOciConfig(const ProcessSpec& spec, const OciParameters& parameters);

// Its `process` alone, for one more process in a container that runs.
absl::StatusOr<std::string> MakeOciProcess(const ProcessSpec& spec,
                                           const OciParameters& parameters);

}  // namespace kiln::daemon
