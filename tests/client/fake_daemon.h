#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/server.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/buildkit/control.grpc.pb.h"
#include "proto/buildkit/gateway.grpc.pb.h"
#include "store/base/mutex.h"

namespace kiln::client {

// A build daemon's API in this process, on a unix socket in a temporary folder. Its build does what
// the test says, with a channel to the client's session in hand.
class FakeDaemon {
 public:
  struct Script {
    // Runs in Control.Solve after the gateway's Return; its status is the build's.
    std::function<absl::Status(const std::shared_ptr<grpc::Channel>& session)> build;
    absl::Status gateway_status;  // of LLBBridge.Solve
    std::vector<std::string> caps = {"exec.meta.base"};
    std::map<std::string, std::string> exporter_response;
    std::vector<moby::buildkit::v1::StatusResponse> progress;
    int late_session_messages = 0;  // sent after the client has closed its half of the session
  };

  explicit FakeDaemon(Script script);
  ~FakeDaemon();

  const std::string& address() const { return address_; }

  // What arrived; valid once the build has ended.
  moby::buildkit::v1::SolveRequest solve_request;
  moby::buildkit::v1::frontend::SolveRequest gateway_request;
  moby::buildkit::v1::frontend::ReturnRequest return_request;
  std::vector<std::string> session_methods;
  std::string build_id;    // of the gateway's calls
  std::string session_id;  // of the session's stream
  bool session_ended = false;

  // True when the session's stream has ended, now or within some seconds.
  bool WaitForSessionEnd();

  struct State;

 private:
  const std::unique_ptr<State> state_;
  std::string folder_, address_;
};

}  // namespace kiln::client
