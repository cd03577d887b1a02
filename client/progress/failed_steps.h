#pragma once

#include <cstddef>
#include <string>

#include "client/progress/model.h"

namespace kiln::client {

inline constexpr size_t kPlainFailureLines = 10;  // they were printed before
inline constexpr size_t kTtyFailureLines = ProgressModel::kTailLines;

// For each failed step its name and last log lines, between "------". "" when none failed.
std::string DescribeFailedSteps(const ProgressModel& model, size_t lines);

// " 2 warnings found:" and a line for each. "" when there are none.
std::string DescribeWarnings(const ProgressModel& model);

}  // namespace kiln::client
