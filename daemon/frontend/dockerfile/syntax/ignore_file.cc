#include "daemon/frontend/dockerfile/syntax/ignore_file.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/llb/go_path.h"
#include "daemon/frontend/dockerfile/syntax/unicode.h"

namespace kiln::daemon::dockerfile {

namespace {

constexpr size_t kMaxLine = 65535;  // without its end

std::string CleanPattern(absl::string_view pattern) {
  if (pattern.empty()) return "";
  std::string clean = client::llb::CleanPath(pattern);
  if (clean.size() > 1 && clean[0] == '/') clean.erase(0, 1);
  return clean;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseIgnoreFile(absl::string_view data) {
  std::vector<std::string> patterns;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(StripBom(data), '\n')) {
    ++number;
    if (line.size() > kMaxLine) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, " is longer than ", kMaxLine, " bytes"));
    }
    if (absl::StartsWith(line, "#")) continue;
    absl::string_view pattern = TrimSpace(line);
    if (pattern.empty()) continue;
    const bool exception = absl::ConsumePrefix(&pattern, "!");
    patterns.push_back(absl::StrCat(exception ? "!" : "", CleanPattern(TrimSpace(pattern))));
  }
  return patterns;
}

}  // namespace kiln::daemon::dockerfile
