#include "client/progress/failed_steps.h"

#include "absl/strings/str_cat.h"
#include "client/progress/text.h"

namespace kiln::client {

std::string DescribeFailedSteps(const ProgressModel& model, size_t lines) {
  std::string out;
  for (const Step* step : model.started()) {
    if (step->state != Step::State::kFailed) continue;
    absl::StrAppend(&out, "------\n > ", ToDisplay(step->name, 4096), ":\n");
    const size_t skip = step->tail.size() > lines ? step->tail.size() - lines : 0;
    for (size_t i = skip; i < step->tail.size(); ++i) {
      absl::StrAppend(&out, ToDisplay(step->tail[i], 4096), "\n");
    }
    absl::StrAppend(&out, "------\n");
  }
  return out;
}

std::string DescribeWarnings(const ProgressModel& model) {
  if (model.warnings().empty()) return "";
  const size_t count = model.warnings().size();
  std::string out =
      absl::StrCat("\n ", count, count == 1 ? " warning found:\n" : " warnings found:\n");
  for (const WarningEvent& warning : model.warnings()) {
    absl::StrAppend(&out, " - ", ToDisplay(warning.short_text, 4096));
    if (!warning.lines.empty()) absl::StrAppend(&out, " (line ", warning.lines[0].first, ")");
    absl::StrAppend(&out, "\n");
  }
  return out;
}

}  // namespace kiln::client
