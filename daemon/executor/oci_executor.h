#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/executor/cgroup.h"
#include "daemon/executor/executor.h"
#include "daemon/executor/host_files.h"
#include "daemon/executor/network.h"
#include "daemon/executor/runtime.h"

namespace kiln::daemon {

struct OciExecutorOptions {
  std::string state_dir;      // the executor's own folder; made when missing
  std::string runtime;        // path or name; empty: crun, else runc
  std::string cgroup_parent;  // of steps that name none; may be empty
  NetworkOptions network;
  DnsConfig dns;
};

// Runs each step as a container of an OCI runtime (crun, runc). See daemon/DESIGN.md, "Executor".
//
// Invariant: when Run returns, whatever the outcome, the step's processes, cgroups, network and
// bundle are gone and its root has no mount targets that were made for it.
class OciExecutor final : public Executor {
 public:
  // Finds the runtime, takes down what an earlier daemon left in state_dir (containers, cgroups,
  // networks, bundles) and prepares the rest. Only one executor at a time may use a folder.
  static absl::StatusOr<std::unique_ptr<OciExecutor>> Create(OciExecutorOptions options);

  absl::StatusOr<ExitInfo> Run(const ProcessSpec& spec, const OutputSink& output,
                               const CancelToken& cancel) override;

  const RuntimeBinary& runtime() const { return launcher_.binary(); }
  // "host" or "cni": what steps without a wish get.
  const char* default_network() const { return network_->name(); }

 private:
  class StepRun;

  OciExecutor(OciExecutorOptions options, CgroupLayout layout, RuntimeBinary runtime);
  void Sweep();

  const OciExecutorOptions options_;
  const CgroupLayout layout_;
  const std::string bundles_dir_;
  const RuntimeLauncher launcher_;
  std::unique_ptr<HostFiles> host_files_;
  std::unique_ptr<NetworkProvider> network_;
};

}  // namespace kiln::daemon
