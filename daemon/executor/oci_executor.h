#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/executor/container.h"
#include "daemon/executor/executor.h"
#include "daemon/executor/host_files.h"
#include "daemon/executor/network.h"
#include "daemon/executor/oci_step.h"

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
// Outlives its containers.
//
// Invariant: when Run returns, whatever the outcome, the step's processes, cgroups, network and
// bundle are gone and its root has no mount targets that were made for it.
class OciExecutor final : public Executor, public ContainerExecutor {
 public:
  // Finds the runtime, takes down what an earlier daemon left in state_dir (containers, cgroups,
  // networks, bundles) and prepares the rest. Only one executor at a time may use a folder.
  static absl::StatusOr<std::unique_ptr<OciExecutor>> Create(OciExecutorOptions options);

  absl::StatusOr<ExitInfo> Run(const ProcessSpec& spec, const OutputSink& output,
                               const CancelToken& cancel) override;
  std::unique_ptr<Container> NewContainer(ProcessSpec spec) override;

  const RuntimeBinary& runtime() const { return shared_.launcher.binary(); }
  // "host" or "cni": what steps without a wish get.
  const char* default_network() const { return shared_.network->name(); }

 private:
  OciExecutor(const std::string& cgroup_parent, const std::string& state_dir, CgroupLayout layout,
              RuntimeBinary runtime);
  void Sweep();

  OciShared shared_;
};

}  // namespace kiln::daemon
