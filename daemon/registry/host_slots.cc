#include "daemon/registry/host_slots.h"

namespace kiln::daemon {

absl::StatusOr<HostSlots::Slot> HostSlots::Acquire(const std::string& host, bool json,
                                                   const CancelToken& cancel) {
  CancelRegistration wake = cancel.OnCancel([this] {
    MutexLock lock(&mu_);
    changed_.SignalAll();
  });
  const int limit = limit_ + (json ? 1 : 0);
  MutexLock lock(&mu_);
  while (!cancel.Cancelled() && used_[host] >= limit) changed_.Wait(&mu_);
  if (cancel.Cancelled()) return cancel.status();
  ++used_[host];
  return Slot(this, host);
}

void HostSlots::Release(const std::string& host) {
  MutexLock lock(&mu_);
  if (--used_[host] == 0) used_.erase(host);
  changed_.SignalAll();
}

}  // namespace kiln::daemon
