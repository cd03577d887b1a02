#include "daemon/source/transfer_progress.h"

#include <utility>

#include "absl/time/clock.h"

namespace kiln::daemon {

TransferProgress::TransferProgress(solver::ProgressSink& sink, std::string id, std::string name)
    : sink_(sink) {
  status_.id = std::move(id);
  status_.name = std::move(name);
  status_.started = status_.timestamp = absl::Now();
  next_ = status_.started + absl::Milliseconds(100);
  sink_.Status(status_);
}

TransferProgress::~TransferProgress() {
  status_.completed = status_.timestamp = absl::Now();
  sink_.Status(status_);
}

void TransferProgress::Update(int64_t current, int64_t total) {
  status_.current = current;
  status_.total = total;
  const absl::Time now = absl::Now();
  if (now < next_) return;
  next_ = now + absl::Milliseconds(100);
  status_.timestamp = now;
  sink_.Status(status_);
}

}  // namespace kiln::daemon
