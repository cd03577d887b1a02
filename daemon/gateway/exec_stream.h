#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "daemon/gateway/bridge.h"
#include "store/base/cancel.h"
#include "store/base/thread_pool.h"

namespace moby::buildkit::v1::frontend {
class ExecMessage;
}

namespace kiln::daemon {

// LLBBridge.ExecProcess (wire.md 4.5): one stream for all processes of all containers of a client.
// Each process holds a thread of `pool` while it runs. When the stream is cancelled its processes
// are killed. `find` gives the frontend's bridge and may block.
grpc::ServerBidiReactor<moby::buildkit::v1::frontend::ExecMessage,
                        moby::buildkit::v1::frontend::ExecMessage>*
OpenExecStream(ThreadPool* pool,
               std::function<absl::StatusOr<std::shared_ptr<Bridge>>(const CancelToken&)> find);

}  // namespace kiln::daemon
