#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/progress/model.h"

namespace kiln::client {

// "297B", "1.50kB", "3.42MB": decimal units, two digits after the point except for bytes.
std::string FormatBytes(int64_t bytes);
// "0.1s"
std::string FormatSeconds(absl::Duration duration);

// Columns that `text` takes in a terminal. Bytes that are not UTF-8 count one each.
int DisplayWidth(absl::string_view text);
// At most `columns` wide, safe to print: control characters and escape sequences are removed,
// tabs become a space, invalid bytes "?".
std::string ToDisplay(absl::string_view text, int columns);

// "12 steps: 8 cached, 4 run, 3.2 s", with "1 failed" and "2 canceled" where there are any.
std::string SummaryLine(const StepCounts& counts, absl::Duration took);

// " cur / total", " cur" or ""; then " 1.2s" when it took a while; then " done".
std::string PartText(const StatusEvent& event);

}  // namespace kiln::client
