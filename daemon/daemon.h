#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/config/config.h"

namespace kiln::daemon {

// The whole daemon: the one place where its parts are made and told of each other. Not thread-safe.
class Daemon {
 public:
  // Opens the store and serves. The socket answers when it returns.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const Config& config);
  // Shutdown at once, if that was not done.
  ~Daemon();

  // What it listens on.
  std::vector<std::string> names() const;

  // Refuses new builds from now on (kUnavailable, with the reason).
  void Drain();
  // Waits until no build runs; false at the deadline.
  bool WaitIdle(absl::Time deadline);
  // Cancels what runs, ends all calls and connections, closes the store.
  void Shutdown();

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace kiln::daemon
