#include "client/cli/build_display.h"

#include <unistd.h>

#include <iostream>

#include "absl/time/clock.h"
#include "client/progress/text.h"

namespace kiln::client {

BuildDisplay::BuildDisplay(ProgressMode mode)
    : mode_(mode), begin_(absl::Now()), display_(MakeDisplay(mode, OutputTo(STDERR_FILENO))) {}

void BuildDisplay::OnUpdate(const ProgressUpdate& update) {
  for (Step* step : model_.Apply(update)) {
    step->new_lines.clear();
    step->warnings.clear();
  }
  display_->OnUpdate(update);
}

void BuildDisplay::Finish(const absl::Status& outcome) {
  display_->Finish(outcome);
  if (mode_ == ProgressMode::kPlain || mode_ == ProgressMode::kTty)
    std::cerr << SummaryLine(model_.Counts(), absl::Now() - begin_) << "\n";
}

}  // namespace kiln::client
