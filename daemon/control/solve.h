#pragma once

#include <map>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/attest/source_pins.h"
#include "daemon/control/build.h"
#include "daemon/control/history.h"
#include "daemon/exporter/exporter.h"
#include "daemon/gateway/bridge_client.h"
#include "daemon/remotecache/remote_caches.h"
#include "daemon/rpc/fd_loop.h"
#include "daemon/session/session.h"
#include "solver/solver.h"
#include "store/base/cancel.h"
#include "store/base/thread_pool.h"

namespace moby::buildkit::v1 {
class SolveRequest;
class SolveResponse;
}  // namespace moby::buildkit::v1

namespace kiln::daemon {

class DeviceRegistry;

struct SolveDeps {
  solver::Solver* solver = nullptr;
  BuildTable* builds = nullptr;
  BuildHistory* history = nullptr;
  SessionFinder* sessions = nullptr;
  const ExporterTable* exporters = nullptr;
  const BridgeParts* bridge_parts = nullptr;
  RemoteCaches* caches = nullptr;  // null: the daemon has none
  FdLoop* timers = nullptr;
  const SourcePins* pins = nullptr;         // for provenance; null: no pin is known
  const DeviceRegistry* devices = nullptr;  // null: there are none
  // What clients may be granted ("network.host", "security.insecure", "device").
  absl::flat_hash_set<std::string> entitlements;
  // How long an ended build stays readable for Status.
  absl::Duration keep_ended = absl::Seconds(10);
};

// Control.Solve (wire.md 1.2): waits for the client's answer, runs the frontend or solves the
// definition; builds every ref of the result; exports. Blocks for the whole build.
absl::Status Solve(const SolveDeps& deps, const moby::buildkit::v1::SolveRequest& request,
                   const CancelToken& cancel, moby::buildkit::v1::SolveResponse* response);

}  // namespace kiln::daemon
