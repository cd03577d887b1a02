#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/connection.h"
#include "client/progress/progress.h"

namespace moby::buildkit::v1 {
class StatusResponse;
}

namespace kiln::client {

// The events of one message.
ProgressUpdate ToProgressUpdate(const moby::buildkit::v1::StatusResponse& response);

// Follows a build's Status stream on a thread of its own.
class StatusStream {
 public:
  StatusStream(const Connection& connection, const std::string& ref, ProgressSink* sink);
  ~StatusStream();

  // Waits for the stream's end; gives up when nothing came for `idle`. kUnavailable then. To be
  // called once the build has ended.
  absl::Status Finish(absl::Duration idle);

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace kiln::client
