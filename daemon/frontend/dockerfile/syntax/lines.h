#pragma once

#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/dockerfile/syntax/heredoc.h"
#include "daemon/frontend/dockerfile/syntax/location.h"
#include "daemon/frontend/dockerfile/syntax/split.h"

namespace kiln::daemon::dockerfile {

// An instruction with its continuation lines joined and its here-documents found.
struct LogicalLine {
  std::string code;  // the joined line as it is, white space at the end included
  LineRange lines;
  std::vector<std::string> comments;
  std::vector<Heredoc> heredocs;
  SplitInstruction split;
};

struct LogicalLines {
  char escape = '\\';
  std::deque<LogicalLine> lines;
  std::vector<int> empty_continuations;  // Document::empty_continuations
};

// The first step of reading a Dockerfile: everything that needs no knowledge of instructions but
// how their arguments are cut. kInvalidArgument with a location; `out` is then of no use.
absl::Status ReadLines(absl::string_view data, LogicalLines* out);

}  // namespace kiln::daemon::dockerfile
