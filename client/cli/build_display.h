#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/progress/display.h"
#include "client/progress/model.h"

namespace kiln::client {

// The display of a command that builds, on standard error, with a line of counts at the end.
class BuildDisplay : public ProgressSink {
 public:
  explicit BuildDisplay(ProgressMode mode);
  void OnUpdate(const ProgressUpdate& update) override;
  // After the last update.
  void Finish(const absl::Status& outcome);

 private:
  const ProgressMode mode_;
  const absl::Time begin_;
  const std::unique_ptr<Display> display_;
  ProgressModel model_;  // counts
};

}  // namespace kiln::client
