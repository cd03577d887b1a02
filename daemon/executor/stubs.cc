#include "daemon/executor/stubs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "spdlog/spdlog.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

// Puts a directory's times back when it goes out of scope.
class KeepTimes {
 public:
  explicit KeepTimes(int dir_fd) : dir_fd_(dir_fd), known_(::fstat(dir_fd, &st_) == 0) {}
  KeepTimes(const KeepTimes&) = delete;
  KeepTimes& operator=(const KeepTimes&) = delete;
  ~KeepTimes() {
    const timespec times[2] = {st_.st_atim, st_.st_mtim};
    if (known_ && ::futimens(dir_fd_, times) != 0)
      spdlog::warn("restore the times of a mount target's parent: {}", std::strerror(errno));
  }

 private:
  const int dir_fd_;
  struct stat st_;
  const bool known_;
};

bool Covers(const std::string& upper, const std::string& path) {
  return path == upper || (absl::StartsWith(path, upper) && path[upper.size()] == '/');
}

}  // namespace

absl::Status MountStubs::Add(absl::string_view target, bool directory) {
  absl::StatusOr<Rootfs::Location> where = rootfs_.Locate(target);
  if (!where.ok() || where->path == "/") return absl::OkStatus();
  for (const std::string& earlier : targets_)
    if (Covers(earlier, where->path)) return absl::OkStatus();  // it is inside that mount
  targets_.push_back(where->path);
  if (where->missing == 0) return absl::OkStatus();

  const std::vector<std::string> parts = absl::StrSplit(where->path, '/', absl::SkipEmpty());
  std::string path;
  for (size_t i = 0; i < parts.size(); ++i) {
    absl::StrAppend(&path, "/", parts[i]);
    if (i + where->missing < parts.size()) continue;
    const bool last = i + 1 == parts.size();
    KILN_RETURN_IF_ERROR(Make(path, !last || directory));
    if (last || recursive_) made_.push_back(path);
  }
  return absl::OkStatus();
}

absl::Status MountStubs::AddLasting(absl::string_view target) {
  targets_.emplace_back(target);
  const absl::StatusOr<Rootfs::Location> where = rootfs_.Locate(target);
  if (!where.ok() || where->missing != 1) return absl::OkStatus();
  return Make(where->path, /*directory=*/true);
}

absl::Status MountStubs::Make(const std::string& path, bool directory) {
  const PathParts parts = SplitAbsolute(path);
  KILN_ASSIGN_OR_RETURN(const Fd parent, rootfs_.OpenAt(parts.parent, O_RDONLY | O_DIRECTORY));
  const KeepTimes keep(parent.get());
  const int failed = directory ? ::mkdirat(parent.get(), parts.name.c_str(), 0755)
                               : ::mknodat(parent.get(), parts.name.c_str(), S_IFREG | 0755, 0);
  if (failed != 0 && errno != EEXIST)
    return ErrnoStatus(errno, absl::StrCat("make mount target ", path));
  // After the fact, so that the daemon's umask plays no part.
  if (failed == 0 && ::fchmodat(parent.get(), parts.name.c_str(), 0755, 0) != 0)
    return ErrnoStatus(errno, absl::StrCat("make mount target ", path));
  return absl::OkStatus();
}

void MountStubs::Remove() {
  for (auto it = made_.rbegin(); it != made_.rend(); ++it) {
    const PathParts parts = SplitAbsolute(*it);
    // The step may have put a link in the way: then the path is no longer what was made.
    const absl::StatusOr<Rootfs::Location> where = rootfs_.Locate(parts.parent);
    if (!where.ok() || where->missing > 0 || where->path != parts.parent) continue;
    absl::StatusOr<Fd> parent = rootfs_.OpenAt(parts.parent, O_RDONLY | O_DIRECTORY);
    struct stat st;
    if (!parent.ok() || ::fstatat(parent->get(), parts.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
      continue;
    const bool empty_file = S_ISREG(st.st_mode) && st.st_size == 0;
    if (!empty_file && !S_ISDIR(st.st_mode)) continue;
    const KeepTimes keep(parent->get());
    const int flags = S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0;
    if (::unlinkat(parent->get(), parts.name.c_str(), flags) != 0 && errno != ENOTEMPTY)
      spdlog::warn("remove mount target {}: {}", *it, std::strerror(errno));
  }
  made_.clear();
}

}  // namespace kiln::daemon
