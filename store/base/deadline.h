#pragma once

#include <chrono>

#include "absl/time/time.h"

namespace kiln {

// A moment from now that stays where it is when the system's clock is set.
class Deadline {
 public:
  // May be infinite.
  explicit Deadline(absl::Duration after)
      : start_(std::chrono::steady_clock::now()), after_(after) {}

  // Zero or less once it has passed.
  absl::Duration Left() const {
    return after_ - absl::FromChrono(std::chrono::steady_clock::now() - start_);
  }
  bool Passed() const { return Left() <= absl::ZeroDuration(); }

 private:
  std::chrono::steady_clock::time_point start_;
  absl::Duration after_;
};

}  // namespace kiln
