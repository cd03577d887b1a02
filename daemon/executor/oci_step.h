#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/executor/cgroup.h"
#include "daemon/executor/executor.h"
#include "daemon/executor/host_files.h"
#include "daemon/executor/network.h"
#include "daemon/executor/oci_spec.h"
#include "daemon/executor/rootfs.h"
#include "daemon/executor/runtime.h"
#include "daemon/executor/stubs.h"
#include "store/base/process.h"

namespace kiln::daemon {

// What all steps of an executor share. Constant after its creation.
struct OciShared {
  CgroupLayout layout;
  std::string bundles_dir;
  std::string cgroup_parent;  // of steps that name none; may be empty
  RuntimeLauncher launcher;
  std::unique_ptr<HostFiles> host_files;
  std::unique_ptr<NetworkProvider> network;
};

// What one container owns, in the order in which it is made; the destructor goes the other way and
// ends whatever still runs inside. Processes of the runtime are to be gone before. Not thread-safe.
class OciStep {
 public:
  // Names the step's cgroup in its bundle, so that the next start finds it: a symlink is made at
  // once and whole.
  static constexpr char kCgroupLink[] = "/cgroup";

  OciStep(const OciShared* shared, ProcessSpec spec);
  OciStep(const OciStep&) = delete;
  OciStep& operator=(const OciStep&) = delete;
  ~OciStep();

  // Makes everything up to the bundle's config.json.
  absl::Status Prepare(bool terminal, const CancelToken& cancel);
  // The runtime in the foreground; fills in what it needs to know of this step.
  absl::StatusOr<Process> Run(RuntimeLauncher::Command command);

  // How the main process ended, whose runtime complained in `log_file`. kUnknown "start container:
  // …" when the container could not be made.
  absl::StatusOr<ExitInfo> Explain(const ExitStatus& status, const std::string& log_file) const;

  const ProcessSpec& spec() const { return spec_; }
  const std::string& bundle() const { return bundle_; }
  const OciParameters& parameters() const { return parameters_; }
  const Rootfs& rootfs() const { return *rootfs_; }

 private:
  absl::Status MakeBundle();
  absl::Status MakeStubs();
  absl::Status JoinNetwork(const CancelToken& cancel);

  const OciShared* const shared_;
  const ProcessSpec spec_;
  const std::string bundle_;
  const CgroupMovePrimer primer_;
  bool made_bundle_ = false;
  bool started_ = false;
  OciParameters parameters_;
  HostFile hosts_, resolv_conf_;
  std::optional<Rootfs> rootfs_;
  std::optional<MountStubs> stubs_;
  std::unique_ptr<StepNetwork> network_;
  std::optional<StepCgroup> cgroup_;
};

// The same for a process that joined a container, without what only the container counts.
absl::StatusOr<ExitInfo> ExplainExit(const ExitStatus& status, const std::string& log_file);

}  // namespace kiln::daemon
