#include "store/base/cancel.h"

#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "store/base/check.h"
#include "store/base/deadline.h"
#include "store/base/mutex.h"
#include "store/base/steady_cond_var.h"

namespace kiln {

namespace internal {

struct CancelState {
  Mutex mu;
  SteadyCondVar changed;
  bool cancelled ABSL_GUARDED_BY(mu) = false;
  absl::Status cause ABSL_GUARDED_BY(mu);
  uint64_t next_id ABSL_GUARDED_BY(mu) = 1;
  std::map<uint64_t, absl::AnyInvocable<void()>> callbacks ABSL_GUARDED_BY(mu);
  uint64_t running_id ABSL_GUARDED_BY(mu) = 0;  // 0: none is running
  std::thread::id running_on ABSL_GUARDED_BY(mu);
};

}  // namespace internal

using internal::CancelState;

CancelRegistration::CancelRegistration(std::shared_ptr<CancelState> state, uint64_t id)
    : state_(std::move(state)), id_(id) {}

CancelRegistration::CancelRegistration(CancelRegistration&& other) noexcept
    : state_(std::move(other.state_)), id_(std::exchange(other.id_, 0)) {}

CancelRegistration& CancelRegistration::operator=(CancelRegistration&& other) noexcept {
  if (this != &other) {
    Reset();
    state_ = std::move(other.state_);
    id_ = std::exchange(other.id_, 0);
  }
  return *this;
}

CancelRegistration::~CancelRegistration() { Reset(); }

void CancelRegistration::Reset() {
  if (state_ == nullptr) return;
  absl::AnyInvocable<void()> dropped;  // destroyed outside the lock
  {
    MutexLock lock(&state_->mu);
    auto it = state_->callbacks.find(id_);
    if (it != state_->callbacks.end()) {
      dropped = std::move(it->second);
      state_->callbacks.erase(it);
    }
    // A callback may destroy its own registration; waiting for itself would hang.
    while (state_->running_id == id_ && state_->running_on != std::this_thread::get_id())
      state_->changed.Wait(&state_->mu);
  }
  state_.reset();
}

CancelToken::CancelToken(std::shared_ptr<CancelState> state) : state_(std::move(state)) {}

bool CancelToken::Cancelled() const {
  if (state_ == nullptr) return false;
  MutexLock lock(&state_->mu);
  return state_->cancelled;
}

absl::Status CancelToken::status() const {
  if (state_ == nullptr) return absl::OkStatus();
  MutexLock lock(&state_->mu);
  return state_->cause;
}

CancelRegistration CancelToken::OnCancel(absl::AnyInvocable<void()> callback) const {
  if (state_ == nullptr) return CancelRegistration();
  {
    MutexLock lock(&state_->mu);
    if (!state_->cancelled) {
      const uint64_t id = state_->next_id++;
      state_->callbacks.emplace(id, std::move(callback));
      return CancelRegistration(state_, id);
    }
  }
  callback();
  return CancelRegistration();
}

absl::Status CancelToken::SleepFor(absl::Duration timeout) const {
  if (state_ == nullptr) {
    std::this_thread::sleep_for(absl::ToChronoNanoseconds(timeout));
    return absl::OkStatus();
  }
  const Deadline end(timeout);
  MutexLock lock(&state_->mu);
  while (!state_->cancelled) {
    if (end.Passed()) return absl::OkStatus();
    state_->changed.WaitUntil(&state_->mu, end);
  }
  return state_->cause;
}

CancelSource::CancelSource() : state_(std::make_shared<CancelState>()) {}

CancelToken CancelSource::token() const { return CancelToken(state_); }

void CancelSource::Cancel(absl::Status cause) {
  KILN_CHECK(!cause.ok());
  {
    MutexLock lock(&state_->mu);
    if (state_->cancelled) return;
    state_->cancelled = true;
    state_->cause = std::move(cause);
    state_->changed.SignalAll();
  }
  for (;;) {
    absl::AnyInvocable<void()> callback;
    {
      MutexLock lock(&state_->mu);
      state_->running_id = 0;
      state_->changed.SignalAll();
      if (state_->callbacks.empty()) return;
      auto it = state_->callbacks.begin();
      callback = std::move(it->second);
      state_->running_id = it->first;
      state_->running_on = std::this_thread::get_id();
      state_->callbacks.erase(it);
    }
    callback();
  }
}

}  // namespace kiln
