#include "store/fsutil/directory_cursor.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "store/base/status_macros.h"

namespace kiln::fsutil {
namespace {

bool Vanished(int error_number) { return error_number == ENOENT || error_number == ENOTDIR; }

bool IsPrivateXattr(absl::string_view name) {
  return absl::StartsWith(name, "com.apple.") || absl::StartsWith(name, "trusted.overlay.") ||
         absl::StartsWith(name, "user.overlay.");
}

absl::StatusOr<std::string> ReadLink(int root_fd, const std::string& path, int64_t size_hint) {
  std::string target(static_cast<size_t>(std::max<int64_t>(size_hint, 255)) + 1, '\0');
  for (;;) {
    const ssize_t n = ::readlinkat(root_fd, path.c_str(), target.data(), target.size());
    if (n < 0) return ErrnoStatus(errno, absl::StrCat("readlink ", path));
    if (static_cast<size_t>(n) < target.size()) {
      target.resize(static_cast<size_t>(n));
      return target;
    }
    target.resize(target.size() * 2);
  }
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

}  // namespace

void FillStat(const struct stat& st, Stat* stat) {
  // Go tar headers know no sockets: a socket is sent as an empty file (wire.md 3.2).
  stat->mode = GoModeFromPosix(st.st_mode) & ~kModeSocket;
  stat->uid = st.st_uid;
  stat->gid = st.st_gid;
  stat->size = S_ISDIR(st.st_mode) ? 0 : st.st_size;
  stat->mod_time_ns = st.st_mtim.tv_sec * int64_t{1000000000} + st.st_mtim.tv_nsec;
  stat->devmajor = stat->devminor = 0;
  if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)) {
    const uint64_t device = st.st_rdev;
    stat->devmajor = static_cast<int64_t>((device >> 8) & 0xfff);
    stat->devminor = static_cast<int64_t>((device & 0xff) | ((device >> 12) & 0xfff00));
  }
}

absl::StatusOr<std::unique_ptr<DirectoryCursor>> DirectoryCursor::Open(const std::string& root) {
  KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(root, O_RDONLY | O_DIRECTORY));
  return std::unique_ptr<DirectoryCursor>(new DirectoryCursor(root, std::move(fd)));
}

absl::Status DirectoryCursor::Enter(const std::string& dir) {
  const int fd = ::openat(root_fd_.get(), dir.empty() ? "." : dir.c_str(),
                          O_RDONLY | O_DIRECTORY | O_CLOEXEC | (dir.empty() ? 0 : O_NOFOLLOW));
  if (fd < 0) {
    const int err = errno;
    if (Vanished(err) || err == ELOOP) return absl::OkStatus();
    return ErrnoStatus(err, absl::StrCat("open ", root_, "/", dir));
  }
  std::unique_ptr<DIR, CloseDir> handle(::fdopendir(fd));
  if (handle == nullptr) {
    const int err = errno;
    ::close(fd);
    return ErrnoStatus(err, absl::StrCat("list ", root_, "/", dir));
  }
  Level level;
  if (!dir.empty()) level.prefix = absl::StrCat(dir, "/");
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(handle.get());
    if (entry == nullptr) {
      if (errno != 0) return ErrnoStatus(errno, absl::StrCat("list ", root_, "/", dir));
      break;
    }
    const absl::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    bool is_dir = entry->d_type == DT_DIR;
    if (entry->d_type == DT_UNKNOWN) {
      struct stat st;
      if (::fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;  // vanished
      is_dir = S_ISDIR(st.st_mode);
    }
    level.children.push_back(Child{std::string(name), is_dir});
  }
  std::sort(level.children.begin(), level.children.end(),
            [](const Child& a, const Child& b) { return a.name < b.name; });
  levels_.push_back(std::move(level));
  return absl::OkStatus();
}

absl::StatusOr<bool> DirectoryCursor::Next() {
  if (!started_) {
    started_ = true;
    KILN_RETURN_IF_ERROR(Enter(""));
  } else if (is_dir_ && descend_) {
    descend_ = false;
    KILN_RETURN_IF_ERROR(Enter(path_));
  }
  while (!levels_.empty()) {
    Level& level = levels_.back();
    if (level.next == level.children.size()) {
      levels_.pop_back();
      continue;
    }
    Child& child = level.children[level.next++];
    path_.assign(level.prefix).append(child.name);
    is_dir_ = descend_ = child.is_dir;
    return true;
  }
  is_dir_ = descend_ = false;
  return false;
}

absl::StatusOr<bool> DirectoryCursor::Load(Stat* stat) {
  struct stat st;
  if (::fstatat(root_fd_.get(), path_.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    const int err = errno;
    if (Vanished(err)) return false;
    return ErrnoStatus(err, absl::StrCat("stat ", root_, "/", path_));
  }
  stat->path = path_;
  stat->linkname.clear();
  stat->xattrs.clear();
  FillStat(st, stat);
  if (S_ISLNK(st.st_mode)) {
    absl::StatusOr<std::string> target = ReadLink(root_fd_.get(), path_, st.st_size);
    if (!target.ok())
      return absl::IsNotFound(target.status()) ? absl::StatusOr<bool>(false) : target.status();
    stat->linkname = *std::move(target);
    stat->size = static_cast<int64_t>(stat->linkname.size());
  } else if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
    auto [it, first] = linked_.try_emplace({st.st_dev, st.st_ino}, path_);
    if (!first) {
      stat->linkname = it->second;
      stat->size = 0;
    }
  }
  return true;
}

void DirectoryCursor::LoadXattrs(Stat* stat) const {
  // There is no l*xattrat before Linux 6.13: only these calls need the full path.
  const std::string full = absl::StrCat(root_, "/", path_);
  char small[1024];
  std::string large;
  char* names = small;
  ssize_t size = ::llistxattr(full.c_str(), small, sizeof small);
  if (size < 0 && errno == ERANGE) {
    large.resize(64 << 10);  // XATTR_LIST_MAX
    names = large.data();
    size = ::llistxattr(full.c_str(), names, large.size());
  }
  // No xattrs here, or none that we may see, or the entry vanished: it has none to send.
  for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(std::strlen(names + at)) + 1) {
    const char* name = names + at;
    if (IsPrivateXattr(name)) continue;
    char value[4096];
    ssize_t n = ::lgetxattr(full.c_str(), name, value, sizeof value);
    if (n >= 0) {
      stat->xattrs[name].assign(value, static_cast<size_t>(n));
    } else if (errno == ERANGE) {
      std::string long_value(64 << 10, '\0');  // XATTR_SIZE_MAX
      n = ::lgetxattr(full.c_str(), name, long_value.data(), long_value.size());
      if (n < 0) continue;
      long_value.resize(static_cast<size_t>(n));
      stat->xattrs[name] = std::move(long_value);
    }
  }
}

}  // namespace kiln::fsutil
