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
  BridgeFinder* finder = nullptr;
  ThreadPool* pool = nullptr;  // runs the calls; many wait for builds
  const BridgeParts* parts = nullptr;
};

// moby.buildkit.v1.frontend.LLBBridge on the daemon's own connections: the build is named by the
// header buildkit-controlapi-buildid.
std::unique_ptr<grpc::Service> MakeBridgeService(BridgeServiceDeps deps);

}  // namespace kiln::daemon
