#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/executor/executor.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// One process to start in a container.
struct ProcessRequest {
  std::vector<std::string> args, env;
  std::string cwd = "/";
  std::string user;  // as in pb.Meta; resolved in the container's root
  SecurityMode security = SecurityMode::kSandbox;
  bool terminal = false;  // gives it a terminal of its own; the descriptors below are not used
  // Borrowed until Start returns; -1: /dev/null.
  int stdin_fd = -1, stdout_fd = -1, stderr_fd = -1;
};

// A process that runs in a container. Destroying it kills it. Wait, and everything else, may be
// called from different threads; destroy it after Wait has returned, and before its container.
class ContainerProcess {
 public:
  virtual ~ContainerProcess() = default;

  // Becomes readable when the process has ended; for poll.
  virtual int pidfd() const = 0;
  // Our side of its terminal; -1: it has none. Reading fails with EIO when nobody has the other.
  virtual int terminal() const = 0;
  // To the program itself. OK when it has ended already.
  virtual absl::Status Signal(int signal_number) = 0;
  // Tells the size of its terminal. kFailedPrecondition without one.
  virtual absl::Status Resize(int rows, int columns) = 0;

  // Blocks until it has ended. To be called once. On cancel it is killed.
  virtual absl::StatusOr<ExitInfo> Wait(const CancelToken& cancel) = 0;
};

// A container that stays while its first process does. Destroying it kills what runs inside and
// waits until cgroup, network and mount targets are gone. Thread-safe; blocking.
class Container {
 public:
  virtual ~Container() = default;
  // The first process makes the container; when it ends the kernel kills all others. Later ones
  // join it. What the OCI runtime cannot do is told by Wait.
  virtual absl::StatusOr<std::unique_ptr<ContainerProcess>> Start(const ProcessRequest& request,
                                                                  const CancelToken& cancel) = 0;
};

// Makes containers of several processes. Thread-safe.
class ContainerExecutor {
 public:
  virtual ~ContainerExecutor() = default;
  // `spec` says everything but what its processes say themselves: args, env, cwd, user and
  // security are not used. Nothing runs yet.
  virtual std::unique_ptr<Container> NewContainer(ProcessSpec spec) = 0;
};

}  // namespace kiln::daemon
