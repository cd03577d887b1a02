#pragma once

#include <grpcpp/support/server_callback.h>

#include <string>

#include "absl/time/time.h"
#include "daemon/control/build.h"
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
// with OK, whatever became of the build. `pool` waits for a build that does not exist yet.
grpc::ServerWriteReactor<moby::buildkit::v1::StatusResponse>* OpenStatusStream(
    grpc::CallbackServerContext* context, BuildTable* builds, ThreadPool* pool, std::string ref);

// Control.ListenBuildHistory: running builds, then those that begin and end, until the client
// leaves. Ended builds are not kept. With `early_exit` it ends after the running ones.
struct HistoryQuery {
  std::string ref;  // "" = all
  bool early_exit = false;
};
grpc::ServerWriteReactor<moby::buildkit::v1::BuildHistoryEvent>* OpenHistoryStream(
    grpc::CallbackServerContext* context, BuildTable* builds, HistoryQuery query);

// Metadata that clients read before the first message: the daemon's clock.
inline constexpr char kTimestampHeader[] = "buildkit-current-timestamp";
// RFC 3339 in UTC with nanoseconds.
std::string FormatTimestamp(absl::Time time);

}  // namespace kiln::daemon
