#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/gateway/build_container.h"
#include "daemon/ops/step_log.h"
#include "daemon/rpc/server.h"
#include "solver/solver.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"

namespace grpc {
class Service;
}

namespace kiln::daemon {

// A frontend that runs: its process, and the server at the other end of its standard input and
// output. Not thread-safe.
class FrontendProcess {
 public:
  // `init` is a serialized InitMessage. `service` outlives it.
  static absl::StatusOr<std::unique_ptr<FrontendProcess>> Start(BuildContainer& container,
                                                                const std::string& init,
                                                                grpc::Service* service,
                                                                const CancelToken& cancel);
  // Kills the process and ends the calls it made.
  ~FrontendProcess();
  FrontendProcess(const FrontendProcess&) = delete;
  FrontendProcess& operator=(const FrontendProcess&) = delete;

  // Waits until the process ends. What it says on its standard error is shown as a step of `job`
  // named `name`, once there is something, up to `limits` as a step's. A process that stays when
  // its connection is gone is killed: kUnknown "frontend grpc server closed unexpectedly". Blocks.
  absl::StatusOr<ExitInfo> Wait(solver::Job& job, const std::string& name, const LogLimits& limits,
                                const CancelToken& cancel);

  // The last bytes of its standard error.
  const std::string& last_words() const { return last_words_; }

 private:
  FrontendProcess() = default;
  enum class Stop { kEnded, kOutput };
  // Until it ends; or, without a log, until there is output to show.
  absl::StatusOr<Stop> Watch(StepLog* log, const CancelToken& cancel);
  // Whether the process has closed its end, which the OCI runtime still has. Looks twice.
  bool LetGo();
  // False at the end.
  bool TakeOutput(StepLog& log);

  std::unique_ptr<ContainerProcess> process_;
  std::unique_ptr<RpcServer> server_;
  Fd connection_;     // a copy of the server's, to see when it is gone
  ino_t socket_ = 0;  // the process's end of it
  Fd errors_;
  std::string last_words_;
  bool let_go_before_ = false;
};

}  // namespace kiln::daemon
