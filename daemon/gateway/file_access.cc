#include "daemon/gateway/file_access.h"

#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "store/base/pattern_matcher.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int64_t kMaxBytes = 16 << 20;  // what one message may carry
constexpr int kMaxLinks = 40;

absl::Status Named(const absl::Status& status, absl::string_view doing, absl::string_view path) {
  if (absl::IsNotFound(status))
    return absl::NotFoundError(absl::StrCat(doing, " ", path, ": no such file or directory"));
  return Annotate(status, absl::StrCat(doing, " ", path));
}

fsutil::Stat ToStat(const store::Entry& entry) {
  fsutil::Stat stat;
  stat.path = entry.name;
  stat.mode = fsutil::GoModeFromPosix(entry.st.st_mode);
  stat.uid = entry.st.st_uid;
  stat.gid = entry.st.st_gid;
  stat.size = S_ISDIR(entry.st.st_mode) ? 0 : entry.st.st_size;
  stat.mod_time_ns = entry.st.st_mtim.tv_sec * 1'000'000'000 + entry.st.st_mtim.tv_nsec;
  if (S_ISLNK(entry.st.st_mode)) stat.linkname = entry.link;
  if (S_ISCHR(entry.st.st_mode) || S_ISBLK(entry.st.st_mode)) {
    stat.devmajor = major(entry.st.st_rdev);
    stat.devminor = minor(entry.st.st_rdev);
  }
  return stat;
}

absl::StatusOr<std::string> ReadRange(int fd, int64_t offset, int64_t length) {
  std::string data;
  constexpr size_t kChunk = 256 << 10;
  while (length < 0 || static_cast<int64_t>(data.size()) < length) {
    const size_t have = data.size();
    size_t want = kChunk;
    if (length >= 0) want = std::min<size_t>(want, length - have);
    data.resize(have + want);
    const ssize_t got = pread(fd, data.data() + have, want, offset + have);
    if (got < 0) return ErrnoStatus(errno, "read");
    data.resize(have + got);
    if (got == 0) break;
    if (static_cast<int64_t>(data.size()) > kMaxBytes)
      return absl::ResourceExhaustedError(
          "file is larger than one message can carry: read it in ranges");
  }
  return data;
}

// `link` as seen from `folder`; "" when it climbs out of the root.
std::string JoinInside(absl::string_view folder, absl::string_view link) {
  std::vector<absl::string_view> parts = absl::StrSplit(folder, '/', absl::SkipEmpty());
  for (absl::string_view part : absl::StrSplit(link, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (parts.empty()) {
      return "";
    } else {
      parts.pop_back();
    }
  }
  return absl::StrCat("/", absl::StrJoin(parts, "/"));
}

}  // namespace

absl::StatusOr<std::string> ReadTreeFile(const store::Layers& layers, absl::string_view path,
                                         int64_t offset, int64_t length) {
  if (offset < 0)
    return absl::InvalidArgumentError(absl::StrCat("read ", path, ": offset ", offset));
  const store::TreeReader reader(layers);
  const auto resolved = reader.Resolve(store::CleanPath(path), /*follow=*/true);
  if (!resolved.ok()) return Named(resolved.status(), "open", path);
  const auto entry = reader.Lstat(*resolved);
  if (!entry.ok()) return Named(entry.status(), "open", path);
  if (!S_ISREG(entry->st.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  const auto fd = reader.Open(*resolved);
  if (!fd.ok()) return Named(fd.status(), "open", path);
  auto data = ReadRange(fd->get(), offset, length);
  if (!data.ok()) return Annotate(data.status(), std::string(path));
  return data;
}

absl::StatusOr<std::vector<fsutil::Stat>> ReadTreeDir(const store::Layers& layers,
                                                      absl::string_view path,
                                                      const std::string& include_pattern) {
  PatternMatcher matcher;
  if (!include_pattern.empty()) {
    const std::vector<std::string> patterns = {include_pattern};
    KILN_ASSIGN_OR_RETURN(matcher, PatternMatcher::Create(patterns));
  }
  const store::TreeReader reader(layers);
  const auto resolved = reader.Resolve(store::CleanPath(path), /*follow=*/true);
  if (!resolved.ok()) return Named(resolved.status(), "read directory", path);
  const auto entries = reader.List(*resolved);
  if (!entries.ok()) return Named(entries.status(), "read directory", path);
  std::vector<fsutil::Stat> stats;
  for (const store::Entry& entry : *entries) {
    if (include_pattern.empty() || matcher.Matches(entry.name)) stats.push_back(ToStat(entry));
  }
  return stats;
}

absl::StatusOr<fsutil::Stat> StatTreeFile(const store::Layers& layers, absl::string_view path) {
  const store::TreeReader reader(layers);
  const auto resolved = reader.Resolve(store::CleanPath(path), /*follow=*/true);
  if (!resolved.ok()) return Named(resolved.status(), "lstat", path);
  const auto entry = reader.Lstat(*resolved);
  if (!entry.ok()) return Named(entry.status(), "lstat", path);
  fsutil::Stat stat = ToStat(*entry);
  stat.path = store::SplitPath(*resolved).second;
  return stat;
}

absl::StatusOr<fsutil::Stat> StatMountFile(const store::Layers& layers, absl::string_view path) {
  const store::TreeReader reader(layers);
  std::string at = store::CleanPath(path);
  for (int links = 0; links <= kMaxLinks; ++links) {
    const auto resolved = reader.Resolve(at, /*follow=*/false);
    if (!resolved.ok()) return Named(resolved.status(), "lstat", path);
    const auto entry = reader.Lstat(*resolved);
    if (!entry.ok()) return Named(entry.status(), "lstat", path);
    std::string next;
    if (S_ISLNK(entry->st.st_mode) && !absl::StartsWith(entry->link, "/"))
      next = JoinInside(store::SplitPath(*resolved).first, entry->link);
    if (next.empty()) {
      fsutil::Stat stat = ToStat(*entry);
      stat.path = store::SplitPath(store::CleanPath(path)).second;
      return stat;
    }
    at = std::move(next);
  }
  return absl::FailedPreconditionError(
      absl::StrCat("lstat ", path, ": too many levels of symbolic links"));
}

}  // namespace kiln::daemon
