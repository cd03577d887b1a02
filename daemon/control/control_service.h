#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/control/build.h"
#include "daemon/control/solve.h"
#include "daemon/session/tunnel.h"
#include "store/base/thread_pool.h"
#include "store/ref_store.h"

namespace grpc {
class Service;
}

namespace kiln::daemon {

class DeviceRegistry;

struct ControlDeps {
  SolveDeps solve;
  SessionHost* session_host = nullptr;
  store::RefStore* refs = nullptr;
  // What named images hold beside the records of `refs`; may be null. Blocks.
  std::function<absl::StatusOr<std::vector<store::UsageInfo>>()> image_usage = {};
  ThreadPool* builds = nullptr;  // one thread for each running Solve
  ThreadPool* calls = nullptr;   // shorter calls
  // A serialized moby.buildkit.v1.types.WorkerRecord, as of now. May block for a moment.
  std::function<std::string()> worker;
  const DeviceRegistry* devices = nullptr;  // shown with the worker; null: there are none
};

// moby.buildkit.v1.Control.
std::unique_ptr<grpc::Service> MakeControlService(ControlDeps deps);

// kiln.v1.Stats.
struct StatsDeps {
  solver::Solver* solver = nullptr;
  BuildTable* builds = nullptr;
  SessionRegistry* sessions = nullptr;
  absl::Time started_at;
};
std::unique_ptr<grpc::Service> MakeStatsService(StatsDeps deps);

}  // namespace kiln::daemon
