#pragma once

#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"

namespace kiln {

// Locks by name, for work that must not run twice at a time on one thing. Thread-safe; outlives
// every hold.
class NamedLocks {
 public:
  class Hold {
   public:
    Hold(NamedLocks* owner, std::string name) : owner_(owner), name_(std::move(name)) {}
    Hold(Hold&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), name_(std::move(other.name_)) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (owner_ != nullptr) owner_->Release(name_);
    }

   private:
    NamedLocks* owner_;
    std::string name_;
  };

  // Waits for its turn; the cause when cancelled first.
  absl::StatusOr<Hold> Acquire(const std::string& name, const CancelToken& cancel);

 private:
  void Release(const std::string& name);

  Mutex mu_;
  CondVar changed_;
  absl::flat_hash_set<std::string> held_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln
