#include "store/base/named_locks.h"

namespace kiln {

absl::StatusOr<NamedLocks::Hold> NamedLocks::Acquire(const std::string& name,
                                                     const CancelToken& cancel) {
  CancelRegistration wake = cancel.OnCancel([this] {
    MutexLock lock(&mu_);
    changed_.SignalAll();
  });
  MutexLock lock(&mu_);
  while (held_.contains(name) && !cancel.Cancelled()) changed_.Wait(&mu_);
  if (cancel.Cancelled()) return cancel.status();
  held_.insert(name);
  return Hold(this, name);
}

void NamedLocks::Release(const std::string& name) {
  MutexLock lock(&mu_);
  held_.erase(name);
  changed_.SignalAll();
}

}  // namespace kiln
