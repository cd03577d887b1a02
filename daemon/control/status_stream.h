#pragma once

#include <grpcpp/support/server_callback.h>

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/control/build.h"
#include "daemon/control/history.h"
#include "daemon/rpc/fd_loop.h"
#include "store/base/thread_pool.h"

namespace moby::buildkit::v1 {
class StatusResponse;
class BuildHistoryEvent;
}  // namespace moby::buildkit::v1

namespace grpc {
class CallbackServerContext;
}

namespace kiln::daemon {

// Control.Status (wire.md 5): everything the build told so far, then what it tells, then the end
// with OK, whatever became of the build. One that has ended is read from the history, which may be
// null. `pool` waits for a build that does not exist yet, `timers` spaces small messages; both
// outlive the stream.
grpc::ServerWriteReactor<moby::buildkit::v1::StatusResponse>* OpenStatusStream(
    grpc::CallbackServerContext* context, BuildTable* builds, BuildHistory* history, FdLoop* timers,
    ThreadPool* pool, std::string ref);

// Control.ListenBuildHistory (wire.md 7.1): running builds, then records, then what begins, ends
// and changes, until the client leaves; with `early_exit` only what is there. `pool` reads the
// records.
struct HistoryQuery {
  std::string ref;  // "" = all
  bool active_only = false, early_exit = false;
  std::vector<std::string> filters = {};
  int limit = 0;
};
grpc::ServerWriteReactor<moby::buildkit::v1::BuildHistoryEvent>* OpenHistoryStream(
    grpc::CallbackServerContext* context, BuildHistory* history, ThreadPool* pool,
    HistoryQuery query);

// Metadata that clients read before the first message: the daemon's clock.
inline constexpr char kTimestampHeader[] = "buildkit-current-timestamp";
// RFC 3339 in UTC with nanoseconds.
std::string FormatTimestamp(absl::Time time);

}  // namespace kiln::daemon
