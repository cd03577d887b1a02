#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "store/base/fd.h"

namespace kiln::daemon {

// The most memory that this process had since the last call, in MiB.
inline int64_t PeakMib() {
  const std::string status = ReadFileToString("/proc/self/status").value_or("");
  int64_t kib = 0;
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    if (absl::ConsumePrefix(&line, "VmHWM:") && absl::ConsumeSuffix(&line, "kB")) {
      EXPECT_TRUE(absl::SimpleAtoi(absl::StripAsciiWhitespace(line), &kib));
    }
  }
  std::ofstream("/proc/self/clear_refs") << "5";
  return kib >> 10;
}

}  // namespace kiln::daemon
