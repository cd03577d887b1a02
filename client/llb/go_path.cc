#include "client/llb/go_path.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace kiln::client::llb {
namespace {

// As most paths are: without anything that CleanPath would take out.
bool IsClean(absl::string_view path) {
  if (path == "/") return true;
  absl::ConsumePrefix(&path, "/");
  for (const absl::string_view part : absl::StrSplit(path, '/'))
    if (part.empty() || part == "." || part == "..") return false;
  return true;
}

}  // namespace

std::string CleanPath(absl::string_view path) {
  if (path.empty()) return ".";
  if (IsClean(path)) return std::string(path);
  const bool absolute = path.front() == '/';
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty() && parts.back() != "..") {
      parts.pop_back();
    } else if (!absolute) {
      parts.push_back(part);
    }
  }
  std::string clean = absl::StrCat(absolute ? "/" : "", absl::StrJoin(parts, "/"));
  return clean.empty() ? "." : clean;
}

std::string JoinPath(absl::string_view dir, absl::string_view path) {
  if (dir.empty() && path.empty()) return "";
  if (dir.empty()) return CleanPath(path);
  if (path.empty()) return CleanPath(dir);
  std::string joined = absl::StrCat(dir, absl::EndsWith(dir, "/") ? "" : "/", path);
  return IsClean(joined) ? joined : CleanPath(joined);
}

std::string BasePath(absl::string_view path) {
  if (path.empty()) return ".";
  while (absl::ConsumeSuffix(&path, "/")) {
  }
  return path.empty() ? "/" : std::string(path.substr(path.rfind('/') + 1));
}

}  // namespace kiln::client::llb
