// Debian's Abseil is not instrumented: ThreadSanitizer sees its locks and the counts of shared
// statuses order nothing, and gRPC, which uses them throughout, hand data from thread to thread
// without any. In the tests of the tsan preset the linker puts these functions around Abseil's
// (--wrap); they tell what each orders.
#include <sanitizer/tsan_interface.h>

#include <cstdint>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

// Names as Debian 12's Abseil mangles them.
#define KILN_MUTEX(function) _ZN4absl7debian35Mutex##function
#define KILN_CONDVAR(function) _ZN4absl7debian37CondVar##function
#define KILN_JOIN(a, b) a##b
#define KILN_WRAP(name) KILN_JOIN(__wrap_, name)
#define KILN_REAL(name) KILN_JOIN(__real_, name)

extern "C" {

// The last of a status's copies deletes what they share: after all others are done with it.
void KILN_REAL(_ZN4absl7debian36Status15UnrefNonInlinedEm)(uintptr_t rep);
void KILN_WRAP(_ZN4absl7debian36Status15UnrefNonInlinedEm)(uintptr_t rep) {
  __tsan_release(reinterpret_cast<void*>(rep));
  __tsan_acquire(reinterpret_cast<void*>(rep));
  KILN_REAL(_ZN4absl7debian36Status15UnrefNonInlinedEm)(rep);
}

void KILN_REAL(KILN_MUTEX(4LockEv))(absl::Mutex*);
void KILN_WRAP(KILN_MUTEX(4LockEv))(absl::Mutex* mu) {
  KILN_REAL(KILN_MUTEX(4LockEv))(mu);
  __tsan_acquire(mu);
}

bool KILN_REAL(KILN_MUTEX(7TryLockEv))(absl::Mutex*);
bool KILN_WRAP(KILN_MUTEX(7TryLockEv))(absl::Mutex* mu) {
  const bool locked = KILN_REAL(KILN_MUTEX(7TryLockEv))(mu);
  if (locked) __tsan_acquire(mu);
  return locked;
}

void KILN_REAL(KILN_MUTEX(6UnlockEv))(absl::Mutex*);
void KILN_WRAP(KILN_MUTEX(6UnlockEv))(absl::Mutex* mu) {
  __tsan_release(mu);
  KILN_REAL(KILN_MUTEX(6UnlockEv))(mu);
}

void KILN_REAL(_ZN4absl7debian319ReleasableMutexLock7ReleaseEv)(absl::ReleasableMutexLock*);
void KILN_WRAP(_ZN4absl7debian319ReleasableMutexLock7ReleaseEv)(absl::ReleasableMutexLock* lock) {
  // Its one member is the mutex; Unlock is called from within Abseil, past the function above.
  __tsan_release(*reinterpret_cast<absl::Mutex**>(lock));
  KILN_REAL(_ZN4absl7debian319ReleasableMutexLock7ReleaseEv)(lock);
}

void KILN_REAL(KILN_CONDVAR(4WaitEPNS0_5MutexE))(absl::CondVar*, absl::Mutex*);
void KILN_WRAP(KILN_CONDVAR(4WaitEPNS0_5MutexE))(absl::CondVar* changed, absl::Mutex* mu) {
  __tsan_release(mu);
  KILN_REAL(KILN_CONDVAR(4WaitEPNS0_5MutexE))(changed, mu);
  __tsan_acquire(mu);
}

bool KILN_REAL(KILN_CONDVAR(15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE))(absl::CondVar*,
                                                                           absl::Mutex*,
                                                                           absl::Duration);
bool KILN_WRAP(KILN_CONDVAR(15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE))(absl::CondVar* changed,
                                                                           absl::Mutex* mu,
                                                                           absl::Duration limit) {
  __tsan_release(mu);
  const bool late =
      KILN_REAL(KILN_CONDVAR(15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE))(changed, mu, limit);
  __tsan_acquire(mu);
  return late;
}

bool KILN_REAL(KILN_CONDVAR(16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE))(absl::CondVar*,
                                                                        absl::Mutex*, absl::Time);
bool KILN_WRAP(KILN_CONDVAR(16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE))(absl::CondVar* changed,
                                                                        absl::Mutex* mu,
                                                                        absl::Time deadline) {
  __tsan_release(mu);
  const bool late =
      KILN_REAL(KILN_CONDVAR(16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE))(changed, mu, deadline);
  __tsan_acquire(mu);
  return late;
}

}  // extern "C"
