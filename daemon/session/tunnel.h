#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>

#include "daemon/rpc/fd_loop.h"
#include "daemon/session/health.h"
#include "daemon/session/registry.h"
#include "store/base/thread_pool.h"

namespace grpc {
class CallbackServerContext;
}
namespace moby::buildkit::v1 {
class BytesMessage;
}

namespace kiln::daemon {

// Turns Control.Session calls into sessions (wire.md 2): the bytes of the stream are a nested
// HTTP/2 connection on which the daemon is the client. They are pumped between the stream and a
// socketpair whose other end is a gRPC channel.
//
// A session is in the registry from the start of its call, and leaves it as soon as the client
// half-closes or is gone; the call then ends with OK at once, as clients wait for that.
// Thread-safe. Destroy it after the server that it serves.
class SessionHost {
 public:
  SessionHost() : loop_("kiln-session"), reaper_("kiln-reaper", 1) {}
  // Waits for health checks under way.
  ~SessionHost();

  grpc::ServerBidiReactor<moby::buildkit::v1::BytesMessage, moby::buildkit::v1::BytesMessage>* Open(
      grpc::CallbackServerContext* context);

  SessionRegistry& registry() { return registry_; }

 private:
  friend class Tunnel;
  SessionRegistry registry_;
  HealthCalls health_calls_;
  FdLoop loop_;        // waits where a socket call would block; starts health checks
  ThreadPool reaper_;  // destroys channels, which must not happen on gRPC's threads
};

}  // namespace kiln::daemon
