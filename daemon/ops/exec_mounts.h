#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "daemon/executor/executor.h"
#include "daemon/ops/cache_mounts.h"
#include "daemon/ops/exec.h"
#include "daemon/ops/exec_plan.h"
#include "daemon/ops/ssh_proxy.h"
#include "solver/op.h"
#include "store/base/mount.h"
#include "store/ref_store.h"

namespace kiln::daemon {

class Session;

// Where a foreign platform's emulator is seen inside a step.
inline constexpr char kEmulatorPath[] = "/dev/.buildkit_qemu_emulator";

// Tries `use` on the sessions of every job that wants the vertex, as they are at this moment.
absl::Status WithAnySession(const ExecOpDeps& deps, solver::OpContext& context,
                            const CancelToken& cancel,
                            const std::function<absl::Status(Session&)>& use);

// The plan's secrets as environment variables: "NAME=value". kNotFound names a missing one.
absl::StatusOr<std::vector<std::string>> SecretEnvironment(const ExecOpDeps& deps,
                                                           const ExecPlan& plan,
                                                           solver::OpContext& context);

// Names a container, its cgroup and its folders; never used twice.
std::string NewStepId();

// Everything that a step sees mounted, made before it runs and owned until the end (llb.md 2.2.1).
// The destructor discards what was not committed. Not thread-safe; blocks on disk and sessions.
class ExecMounts {
 public:
  // `id` is the step's; `inputs` has one tree for each input of the op, nullptr for the empty one.
  static absl::StatusOr<std::unique_ptr<ExecMounts>> Prepare(
      const ExecOpDeps& deps, const ExecPlan& plan, const std::string& id,
      solver::OpContext& context, absl::Span<const store::RefPtr> inputs);
  ~ExecMounts();
  ExecMounts(const ExecMounts&) = delete;
  ExecMounts& operator=(const ExecMounts&) = delete;

  const std::string& rootfs() const { return rootfs_; }
  bool rootfs_readonly() const { return rootfs_readonly_; }
  // Sorted so that parents come first.
  const std::vector<ContainerMount>& mounts() const { return mounts_; }

  // Where the plan's mount `index` is on this machine. kUnimplemented for one without files here
  // (tmpfs, secret, ssh).
  absl::StatusOr<std::string> HostPath(size_t index) const;

  // Ends the step's use: unmounts everything, then commits the trees of the outputs. One result
  // for each mount with an output, in the op's order. To be called once.
  absl::StatusOr<std::vector<store::RefPtr>> Commit();
  // The end of a step that failed: `(*left)[i]` becomes the plan's mount i as it is now, where it
  // was writable and is not a cache. To be called once, instead of Commit.
  absl::Status CommitLeft(std::vector<store::RefPtr>* left);

 private:
  struct Child {
    size_t mount = 0;  // of the plan
    std::unique_ptr<store::MutableRef> ref;
    std::unique_ptr<store::MountedTree> tree;
  };
  // An output is an input as it is, or the child with that index.
  struct Output {
    store::RefPtr ref;
    std::optional<size_t> child;
  };

  ExecMounts(const ExecOpDeps& deps, const ExecPlan& plan, solver::OpContext& context)
      : deps_(deps), plan_(plan), context_(context) {}

  absl::Status Add(const ExecPlan::Mount& mount, absl::Span<const store::RefPtr> inputs);
  absl::Status AddBind(const ExecPlan::Mount& mount, const store::RefPtr& input);
  absl::Status AddCache(const ExecPlan::Mount& mount, const store::RefPtr& input);
  absl::Status AddSecret(const ExecPlan::Mount& mount);
  absl::Status AddSsh(const ExecPlan::Mount& mount);
  absl::Status SetRoot(const ExecPlan::Mount& mount, const std::string& tree);
  // A writable child of `input`; returns where it is mounted.
  absl::StatusOr<std::string> MakeChild(const ExecPlan::Mount& mount, const store::RefPtr& input);
  absl::StatusOr<std::string> MountInput(const store::RefPtr& input);
  absl::StatusOr<std::string> StepFolder();
  // What `mount` selects below `tree`, links confined. `pinned`: others may change the tree
  // meanwhile.
  absl::StatusOr<std::string> Select(const std::string& tree, const ExecPlan::Mount& mount,
                                     bool pinned);
  absl::Status Release();

  const ExecOpDeps& deps_;
  const ExecPlan& plan_;
  solver::OpContext& context_;
  std::string folder_path_;
  bool made_folder_ = false;

  std::vector<Child> children_;
  std::vector<Output> outputs_;
  std::map<std::string, std::unique_ptr<store::MountedTree>> inputs_;  // by ref id
  std::map<std::string, std::shared_ptr<CacheDirectory>> cache_by_key_;
  std::vector<std::unique_ptr<SocketProxy>> sockets_;
  std::vector<kiln::Mount> pins_;
  std::string rootfs_;
  bool rootfs_readonly_ = false;
  std::vector<ContainerMount> mounts_;
  std::vector<std::string> host_paths_;  // of the plan's mounts so far; "": none
};

}  // namespace kiln::daemon
