// Patterns and a path from anywhere: no crash, no endless match, and a walk that prunes by the
// look-ahead misses nothing.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "store/base/pattern_matcher.h"

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

std::string CleanRelative(absl::string_view path) {
  std::vector<absl::string_view> parts;
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part != "." && part != "..") parts.push_back(part);
  }
  return absl::StrJoin(parts, "/");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  const std::string path = CleanRelative(lines.back());
  lines.pop_back();
  if (path.empty()) return 0;
  for (const std::string& line : lines) kiln::MatchPath(line, path).IgnoreError();
  const auto matcher = kiln::PatternMatcher::Create(lines);
  if (!matcher.ok()) return 0;
  (void)matcher->Matches(path);
  struct Dir {
    std::string path;
    bool matched;
    kiln::PatternMatchInfo info;
  };
  std::vector<Dir> dirs;
  kiln::PatternMatchInfo parent;
  for (size_t slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1)) {
    Dir dir{path.substr(0, slash), false, {}};
    dir.matched = matcher->MatchesUsingParentResults(dir.path, parent, &dir.info);
    parent = dir.info;
    dirs.push_back(dir);
  }
  const bool matched = matcher->MatchesUsingParentResults(path, parent, nullptr);
  for (const Dir& dir : dirs) {
    if (matched) Require(matcher->MayMatchBelow(dir.path, dir.info));
    if (!matched && dir.matched) Require(matcher->ExceptionMayMatchBelow(dir.path));
  }
  return 0;
}
