#pragma once

#include <memory>

#include "daemon/rpc/fd_loop.h"

namespace kiln::daemon {

// Keeps gRPC's threads for callback services from sleeping. In 1.51 one that got nothing for a
// second sleeps for 100 ms, deaf to what comes in (CallbackAlternativeCQ in
// completion_queue_cc.cc); a daemon that idles answers its next client that much later, and a build
// after each long step. An event every 300 ms, of a call that goes nowhere, keeps at least one of
// them awake: who gets it is good for another second, in which any other wakes up. 20 us of CPU
// each.
//
// One is enough for a process, while it serves. The loop and the server outlive it.
class AwakePollers {
 public:
  explicit AwakePollers(FdLoop* timers);
  // Waits for a call that is under way.
  ~AwakePollers();
  AwakePollers(const AwakePollers&) = delete;
  AwakePollers& operator=(const AwakePollers&) = delete;

 private:
  class Ticker;
  const std::shared_ptr<Ticker> ticker_;
};

}  // namespace kiln::daemon
