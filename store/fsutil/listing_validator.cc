#include "store/fsutil/listing_validator.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::fsutil {
namespace {

std::string Quoted(absl::string_view path) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(path), "\"");
}

absl::Status CheckName(absl::string_view path) {
  auto refuse = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("invalid path ", Quoted(path), ": ", why));
  };
  if (path.empty()) return refuse("empty path");
  if (path.front() == '/') return refuse("absolute path");
  if (path.find('\0') != absl::string_view::npos) return refuse("NUL byte");
  absl::string_view rest = path;
  for (bool more = true; more;) {
    const size_t slash = rest.find('/');
    const absl::string_view name = rest.substr(0, slash);
    if (name == "..") return refuse("path escapes the root");
    if (name.empty() || name == ".") return refuse("unclean path");
    more = slash != absl::string_view::npos;
    if (more) rest.remove_prefix(slash + 1);
  }
  return absl::OkStatus();
}

absl::Status CheckFields(const Stat& stat) {
  if (stat.size < 0)
    return absl::InvalidArgumentError(
        absl::StrCat("invalid size ", stat.size, " of ", Quoted(stat.path)));
  const uint32_t type = stat.mode & kModeTypeMask & ~kModeCharDevice;
  if ((type & (type - 1)) != 0 || (stat.mode & (kModeCharDevice | kModeDevice)) == kModeCharDevice)
    return absl::InvalidArgumentError(
        absl::StrCat("invalid mode ", absl::Hex(stat.mode), " of ", Quoted(stat.path)));
  if (IsSymlink(stat.mode) && stat.linkname.empty())
    return absl::InvalidArgumentError(
        absl::StrCat("symbolic link without a target: ", Quoted(stat.path)));
  if (stat.linkname.find('\0') != std::string::npos)
    return absl::InvalidArgumentError(
        absl::StrCat("link target with a NUL byte: ", Quoted(stat.path)));
  return absl::OkStatus();
}

}  // namespace

int ComparePath(absl::string_view a, absl::string_view b) {
  const size_t n = std::min(a.size(), b.size());
  for (size_t i = 0; i < n; ++i) {
    if (a[i] == b[i]) continue;
    if (a[i] == '/') return -1;
    if (b[i] == '/') return 1;
    return static_cast<uint8_t>(a[i]) < static_cast<uint8_t>(b[i]) ? -1 : 1;
  }
  if (a.size() == b.size()) return 0;
  return a.size() < b.size() ? -1 : 1;
}

absl::Status ListingValidator::CheckOrder(absl::string_view dir, absl::string_view base,
                                          const Stat& stat) {
  while (levels_.size() > 1 && levels_.back().dir != dir) levels_.pop_back();
  Level& level = levels_.back();
  if (level.dir != dir || level.last >= std::string(base)) {
    const std::string last =
        level.dir.empty() ? level.last : absl::StrCat(level.dir, "/", level.last);
    return absl::InvalidArgumentError(
        absl::StrCat("changes out of order: ", Quoted(stat.path), " ", Quoted(last)));
  }
  level.last = std::string(base);
  if (IsDir(stat.mode)) levels_.push_back(Level{stat.path, ""});
  return absl::OkStatus();
}

absl::Status ListingValidator::Check(const Stat& stat) {
  KILN_RETURN_IF_ERROR(CheckName(stat.path));
  KILN_RETURN_IF_ERROR(CheckFields(stat));
  const absl::string_view path = stat.path;
  const size_t slash = path.rfind('/');
  const bool top = slash == absl::string_view::npos;
  KILN_RETURN_IF_ERROR(CheckOrder(top ? absl::string_view() : path.substr(0, slash),
                                  top ? path : path.substr(slash + 1), stat));
  if (IsDir(stat.mode) || IsSymlink(stat.mode)) return absl::OkStatus();
  if (stat.linkname.empty()) {
    link_targets_.insert(stat.path);
  } else if (!link_targets_.contains(stat.linkname)) {
    return absl::InvalidArgumentError(absl::StrCat("invalid link ", Quoted(stat.path),
                                                   " to unknown path: ", Quoted(stat.linkname)));
  }
  return absl::OkStatus();
}

}  // namespace kiln::fsutil
