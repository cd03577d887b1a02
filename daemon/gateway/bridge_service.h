#pragma once

#include <memory>

#include "daemon/gateway/bridge.h"
#include "daemon/gateway/bridge_client.h"
#include "store/base/thread_pool.h"

namespace grpc {
class Service;
}

namespace kiln::daemon {

struct BridgeServiceDeps {
  BridgeFinder* finder = nullptr;  // by the build that a call names; or
  std::shared_ptr<Bridge> bridge;  // the one that every call is for
  ThreadPool* pool = nullptr;      // runs the calls; many wait for builds
  const BridgeParts* parts = nullptr;
};

// moby.buildkit.v1.frontend.LLBBridge. On the daemon's own connections the build is named by the
// header buildkit-controlapi-buildid; on that of a frontend's container it needs no name.
std::unique_ptr<grpc::Service> MakeBridgeService(BridgeServiceDeps deps);

}  // namespace kiln::daemon
