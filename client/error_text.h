#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kiln::client {

// What a user is told about a failed build or call: an excerpt of the source for each place that
// the daemon named, then the message. Ends in a newline.
std::string DescribeError(const absl::Status& status);

// Lines `first` to `last` (from 1) of `text` with some lines around, marked ">>>". "" when the
// lines are outside the text.
std::string SourceExcerpt(absl::string_view filename, absl::string_view text, int first, int last);

// Exit codes of the command line (client/DESIGN.md).
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNoDaemon = 3;
inline constexpr int kExitCanceled = 130;

int ExitCodeOf(const absl::Status& status);

// Marks an error about the command line itself, so that its exit code is kExitUsage; only
// kInvalidArgument is one.
absl::Status WrongUsage(absl::Status status);

}  // namespace kiln::client
