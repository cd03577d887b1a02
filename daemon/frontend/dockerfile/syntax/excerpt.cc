#include "daemon/frontend/dockerfile/syntax/excerpt.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace kiln::daemon::dockerfile {

std::string Excerpt(absl::string_view filename, absl::string_view data, const LineRange& lines) {
  const std::vector<absl::string_view> text = absl::StrSplit(data, '\n');
  const int count = static_cast<int>(text.size());
  if (lines.first < 1 || lines.first > count) return "";
  const int last = std::clamp(lines.last, lines.first, count);
  // The context grows in rounds, one line on each side that has one; a round counts, too.
  int begin = lines.first;
  int end = last;
  for (int padding = last > lines.first ? 2 : 4; padding > 0; --padding) {
    if (begin > 1) {
      --begin;
      --padding;
    }
    if (end < count) {
      ++end;
      --padding;
    }
  }
  constexpr absl::string_view kRule = "--------------------\n";
  std::string out = absl::StrCat(filename, ":", lines.first, "\n", kRule);
  for (int line = begin; line <= end; ++line) {
    const bool marked = line >= lines.first && line <= last;
    absl::StrAppendFormat(&out, " %3d | %s %s\n", line, marked ? ">>>" : "   ", text[line - 1]);
  }
  absl::StrAppend(&out, kRule);
  return out;
}

}  // namespace kiln::daemon::dockerfile
