#pragma once

#include <cstddef>

#include "daemon/control/build.h"

namespace moby::buildkit::v1 {
class StatusResponse;
}

namespace kiln::daemon {

// Turns what a build told into the messages of its status stream, in order (wire.md 5). Not
// thread-safe; never blocks.
class StatusReader {
 public:
  explicit StatusReader(BuildPtr build) : build_(std::move(build)) {}

  const BuildPtr& build() const { return build_; }
  // Where the next message begins in the build's progress and warnings.
  size_t offset() const { return offset_; }
  size_t warning_offset() const { return warning_offset_; }

  // Fills `out`, cleared before, with what was told since the last call, up to about 1 MiB of log
  // text. False when there was nothing; then `*ended` tells that nothing will come any more.
  bool Next(moby::buildkit::v1::StatusResponse* out, bool* ended);

 private:
  const BuildPtr build_;
  size_t offset_ = 0, warning_offset_ = 0;
};

}  // namespace kiln::daemon
