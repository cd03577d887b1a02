#pragma once

#include <utility>

#include "daemon/frontend/frontend_client.h"
#include "daemon/frontend/gateway/allowed_sources.h"
#include "daemon/gateway/bridge_client.h"
#include "store/base/thread_pool.h"

namespace kiln::daemon {

struct GatewayFrontendDeps {
  const BridgeParts* parts = nullptr;
  ThreadPool* pool = nullptr;  // runs the calls that frontends make
  AllowedSources allowed = {};
};

// gateway.v0 (wire.md 4.6): runs the image named by the option `source` as a container that speaks
// LLBBridge over its standard input and output, with this daemon as the server. Thread-safe.
class GatewayFrontend final : public Frontend {
 public:
  explicit GatewayFrontend(GatewayFrontendDeps deps) : deps_(std::move(deps)) {}

  // `client` must be a BridgeClient. Errors of the frontend keep their details; one that dies
  // without an answer is told with its exit code and its last words.
  absl::StatusOr<BridgeResult> Run(FrontendClient& client) override;

 private:
  const GatewayFrontendDeps deps_;
};

}  // namespace kiln::daemon
