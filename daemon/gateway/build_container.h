#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/executor/container.h"
#include "daemon/gateway/bridge.h"
#include "daemon/gateway/bridge_context.h"
#include "daemon/ops/exec.h"
#include "daemon/ops/exec_mounts.h"
#include "daemon/ops/exec_plan.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/base/thread_pool.h"
#include "store/tree.h"

namespace kiln::daemon {

// What containers of frontends are made with. Outlives them.
struct ContainerParts {
  ExecOpDeps exec;  // mounts, as those of steps
  ContainerExecutor* executor = nullptr;
};

// A container that a frontend drives (wire.md 4.5): mounts made at once, processes started one by
// one. Writable mounts are scratch copies; nothing is committed. A LOCKED cache mount is given a
// directory that nobody else has, as PRIVATE: there is no step that could wait for its turn.
// Thread-safe; blocking.
class BuildContainer {
 public:
  // The container's id in a serialized NewContainerRequest.
  static absl::StatusOr<std::string> IdOf(absl::string_view request);

  // Builds the refs that are mounted and mounts them, then `more`. Errors name the mount;
  // "network.host is not allowed" without the entitlement.
  static absl::StatusOr<std::shared_ptr<BuildContainer>> Create(
      const ContainerParts& parts, const std::shared_ptr<Bridge>& bridge, absl::string_view request,
      const CancelToken& cancel, const std::vector<ContainerMount>& more = {});
  ~BuildContainer();

  // Starts a process, described by a serialized InitMessage; the descriptors are borrowed until it
  // returns. The process goes before the container.
  struct Stdio {
    int in = -1, out = -1, err = -1;
  };
  absl::StatusOr<std::unique_ptr<ContainerProcess>> Start(absl::string_view init,
                                                          const Stdio& stdio,
                                                          const CancelToken& cancel);

  // What is missing for programs of the container's platform (MissingEmulator).
  std::string MissingEmulator() const { return daemon::MissingEmulator(parts_.exec, plan_); }

  // A mount's files as they are now, by its index in the request.
  absl::StatusOr<store::Layers> Files(size_t mount) const;

  // Keeps the container from going while somebody uses it.
  class Use {
   public:
    // kNotFound when the container is being released.
    static absl::StatusOr<std::unique_ptr<Use>> Of(std::shared_ptr<BuildContainer> container);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    BuildContainer& container() { return *container_; }

   private:
    explicit Use(std::shared_ptr<BuildContainer> container) : container_(std::move(container)) {}
    const std::shared_ptr<BuildContainer> container_;
  };
  // A use that starts one process. Processes start in the order of these calls, whatever threads
  // run them: the first one makes the container, which ends with it.
  class Turn {
   public:
    // Posts `work` to `pool`. A turn waits for earlier ones only, which the pool began before it.
    // kNotFound when the container is being released.
    static absl::Status Post(std::shared_ptr<BuildContainer> container, ThreadPool* pool,
                             absl::AnyInvocable<void(std::unique_ptr<Turn>)> work);
    ~Turn() { End(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    BuildContainer& container() { return use_->container(); }

    // As the container's Start. To be called once.
    absl::StatusOr<std::unique_ptr<ContainerProcess>> Start(absl::string_view init,
                                                            const Stdio& stdio,
                                                            const CancelToken& cancel);

   private:
    Turn(std::unique_ptr<Use> use, uint64_t number) : use_(std::move(use)), number_(number) {}
    void End();
    const std::unique_ptr<Use> use_;
    const uint64_t number_;
  };
  // Fires when the container is to go: whoever uses it then stops.
  CancelToken released() const { return released_.token(); }
  // Fires released(), waits for all users, takes everything down. Idempotent.
  void Release();

 private:
  BuildContainer(const ContainerParts& parts, std::shared_ptr<Bridge> bridge);
  absl::Status CheckAllowed(const ExecPlan& plan) const;

  const ContainerParts& parts_;
  const std::shared_ptr<Bridge> bridge_;
  CancelSource released_;
  BridgeContext context_;
  std::string op_;  // serialized pb.Op whose exec has the mounts
  ExecPlan plan_;
  std::unique_ptr<ExecMounts> mounts_;
  std::unique_ptr<Container> container_;
  Mutex mu_;
  CondVar changed_;
  int users_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t next_turn_ ABSL_GUARDED_BY(mu_) = 0;
  std::set<uint64_t> turns_ ABSL_GUARDED_BY(mu_);  // taken and not ended
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace kiln::daemon
