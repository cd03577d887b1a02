#pragma once

#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// Bounds the requests under way at each host. Small JSON objects have one slot more than others, so
// that they pass by long downloads. Thread-safe; outlives every slot.
class HostSlots {
 public:
  explicit HostSlots(int for_each_host) : limit_(for_each_host) {}

  class Slot {
   public:
    Slot(HostSlots* owner, std::string host) : owner_(owner), host_(std::move(host)) {}
    Slot(Slot&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), host_(std::move(other.host_)) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot() {
      if (owner_ != nullptr) owner_->Release(host_);
    }

   private:
    HostSlots* owner_;
    std::string host_;
  };

  // Waits for its turn; the cause when cancelled first.
  absl::StatusOr<Slot> Acquire(const std::string& host, bool json, const CancelToken& cancel);

 private:
  void Release(const std::string& host);

  const int limit_;
  Mutex mu_;
  CondVar changed_;
  std::map<std::string, int> used_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
