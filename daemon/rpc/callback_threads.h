#pragma once

#include <memory>

#include "daemon/rpc/fd_loop.h"

namespace kiln::daemon {

// The threads that gRPC 1.51 has for callback services (CallbackAlternativeCQ in
// completion_queue_cc.cc), kept fit for a daemon:
//
// Awake. One that got nothing for a second sleeps for 100 ms, deaf to what comes in; a daemon that
// idles answers its next client that much later, and a build after each long step. An event every
// 300 ms, of a call that goes nowhere, keeps at least one of them awake: who gets it is good for
// another second, in which any other wakes up. 20 us of CPU each.
//
// Few. There are two of them at least, and for each event the one that polls wakes another to poll
// in its place while it works. On two processors, which all the rest of the daemon and its clients
// share, that costs more than it gives: one is kept in a callback, and the other does it all. So
// callbacks never block.
//
// One is enough for a process, while it serves; further ones have no effect on the number of
// threads. The loop and the server outlive it.
class CallbackThreads {
 public:
  CallbackThreads(FdLoop* timers, unsigned processors);
  // Waits for a call that is under way.
  ~CallbackThreads();
  CallbackThreads(const CallbackThreads&) = delete;
  CallbackThreads& operator=(const CallbackThreads&) = delete;

 private:
  class Ticker;
  class Parking;
  const std::shared_ptr<Ticker> ticker_;
  std::unique_ptr<Parking> parking_;  // null: all of them work
};

// As gRPC counts them.
unsigned ProcessorCount();

}  // namespace kiln::daemon
