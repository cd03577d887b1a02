#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/connection.h"
#include "client/llb/state.h"
#include "proto/buildkit/gateway.grpc.pb.h"
#include "tests/integration/builds.h"

namespace kiln::integration {

namespace gateway = moby::buildkit::v1::frontend;

// What a process in a container of ours said and how it ended.
struct ProcessEnd {
  std::string out, err;
  uint32_t code = 0;
  std::string error;
};

// One build as its client-side frontend drives it (wire.md 4): every call of LLBBridge by hand.
class GatewayClient {
 public:
  // Runs `frontend` inside a build whose client offers `base`; the build then returns an empty
  // result. The build's outcome.
  static absl::Status InBuild(const std::string& address, const BusyboxBase& base,
                              const std::function<void(GatewayClient&)>& frontend);

  // Solves with Evaluate. The ref.
  absl::StatusOr<std::string> Evaluate(const client::llb::State& state);

  // Runs `args` as the one process of a container.
  absl::StatusOr<ProcessEnd> RunIn(const gateway::NewContainerRequest& container,
                                   const std::vector<std::string>& args);

  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (gateway::LLBBridge::Stub::*method)(grpc::ClientContext*,
                                                                     const Request&, Response*),
                    const Request& request, Response* response) {
    const auto context = NewContext();
    return FromStatus((stub_.get()->*method)(context.get(), request, response));
  }

 private:
  GatewayClient(const client::Connection& connection, std::string build);
  std::unique_ptr<grpc::ClientContext> NewContext() const;
  static absl::Status FromStatus(const grpc::Status& status);

  const std::string build_;
  const std::unique_ptr<gateway::LLBBridge::Stub> stub_;
};

}  // namespace kiln::integration
