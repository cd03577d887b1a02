#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// One thread that waits for file descriptors (epoll). Callbacks run on it, one at a time, and must
// not block. Thread-safe.
class FdLoop {
 public:
  using Callback = absl::AnyInvocable<void(uint32_t events)>;

  // `name` shows in thread lists; at most 15 characters.
  explicit FdLoop(std::string name);
  // Joins the thread; callbacks that did not start are dropped. Not on the loop's own thread.
  ~FdLoop();
  FdLoop(const FdLoop&) = delete;
  FdLoop& operator=(const FdLoop&) = delete;

  // Watches `fd` (not owned; at most once at a time), unarmed. 0 when the kernel refuses.
  uint64_t Add(int fd, Callback ready);
  // Calls back once when one of `events` (EPOLLIN, EPOLLOUT) or an error happens. Arming again
  // replaces what was armed.
  void Arm(uint64_t id, uint32_t events);
  // After it returns the callback neither runs nor will run, except that it may be the caller.
  void Remove(uint64_t id);
  // Runs `work` on the loop thread, at once or after `delay`.
  void Post(absl::AnyInvocable<void()> work);
  void PostAfter(absl::Duration delay, absl::AnyInvocable<void()> work);

 private:
  struct Watch {
    int fd;
    Callback ready;
  };
  void Run();
  void Dispatch(uint64_t id, uint32_t events);
  void RunPosted();
  int NextTimeoutMs();

  const std::string name_;
  Fd epoll_, wake_;
  Mutex mu_;
  CondVar idle_;
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t running_ ABSL_GUARDED_BY(mu_) = 0;  // the watch whose callback runs
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Watch>> watches_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::AnyInvocable<void()>> posted_ ABSL_GUARDED_BY(mu_);
  std::multimap<std::chrono::steady_clock::time_point, absl::AnyInvocable<void()>> timers_
      ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace kiln::daemon
