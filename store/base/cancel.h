#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace kiln {

namespace internal {
struct CancelState;
}

// Unregisters its callback when destroyed; waits for a callback that is running on another thread.
class CancelRegistration {
 public:
  CancelRegistration() = default;
  CancelRegistration(std::shared_ptr<internal::CancelState> state, uint64_t id);
  CancelRegistration(CancelRegistration&& other) noexcept;
  CancelRegistration& operator=(CancelRegistration&& other) noexcept;
  ~CancelRegistration();

 private:
  void Reset();
  std::shared_ptr<internal::CancelState> state_;
  uint64_t id_ = 0;
};

// Tells work that it is no longer wanted. Cheap to copy, thread-safe. A default token never fires.
class CancelToken {
 public:
  CancelToken() = default;
  explicit CancelToken(std::shared_ptr<internal::CancelState> state);

  bool Cancelled() const;

  // OK, or the cause given to CancelSource::Cancel (kCancelled unless a caller chose otherwise).
  absl::Status status() const;

  // Calls `callback` once, on the cancelling thread, or at once if already cancelled. It must be
  // short and must not block. Keep the registration as long as the callback's captures live.
  [[nodiscard]] CancelRegistration OnCancel(absl::AnyInvocable<void()> callback) const;

  // Sleeps until `timeout` passed (OK) or the token fired (its cause).
  absl::Status SleepFor(absl::Duration timeout) const;

 private:
  std::shared_ptr<internal::CancelState> state_;
};

// The firing end. Thread-safe.
class CancelSource {
 public:
  CancelSource();
  CancelToken token() const;

  // The first call wins; later ones do nothing. `cause` must not be OK.
  void Cancel(absl::Status cause = absl::CancelledError("context canceled"));

 private:
  std::shared_ptr<internal::CancelState> state_;
};

}  // namespace kiln
