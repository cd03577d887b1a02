#include "store/layer/layer_directory.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/status_macros.h"
#include "store/snapshot/copy_entry.h"
#include "store/snapshot/driver.h"

namespace kiln::store {
namespace {

absl::Status NotADirectory(absl::string_view path) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, " is no directory, but entries lie below it"));
}

}  // namespace

absl::StatusOr<LayerDirectory> LayerDirectory::Open(const std::string& path, bool overlay_form) {
  KILN_ASSIGN_OR_RETURN(Fd root, OpenFile(path, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  LayerDirectory out(path, std::move(root), overlay_form);
  KILN_RETURN_IF_ERROR(out.Note("/", out.root_.get(), overlay_form));
  return out;
}

std::string LayerDirectory::Host(absl::string_view path) const {
  return path == "/" ? path_ : absl::StrCat(path_, path);
}

std::string LayerDirectory::Host(const Parent& parent, const std::string& name) const {
  return Host(JoinPath(parent.path, name));
}

// No symlink is followed here.
absl::StatusOr<Fd> LayerDirectory::OpenDirectory(const std::string& path, int* error) const {
  struct open_how how = {};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const char* relative = path == "/" ? "." : path.c_str() + 1;
  for (;;) {
    const long fd = ::syscall(SYS_openat2, root_.get(), relative, &how, sizeof how);
    *error = fd >= 0 ? 0 : errno;
    if (fd >= 0) return Fd(static_cast<int>(fd));
    if (*error != EINTR && *error != EAGAIN) return ErrnoStatus(*error, path);
  }
}

absl::Status LayerDirectory::Note(const std::string& path, int fd, bool implied) {
  auto [it, added] = directories_.try_emplace(path);
  if (!added) return absl::OkStatus();
  it->second.implied = implied;
  if (implied) return absl::OkStatus();
  struct stat st;
  if (::fstat(fd, &st) != 0) return ErrnoStatus(errno, absl::StrCat("stat ", path));
  it->second.times[0] = st.st_atim;
  it->second.times[1] = st.st_mtim;
  return absl::OkStatus();
}

absl::StatusOr<LayerDirectory::Parent> LayerDirectory::Keep(std::string asked, std::string real,
                                                            Fd fd, bool implied) {
  KILN_RETURN_IF_ERROR(Note(real, fd.get(), implied));
  asked_ = std::move(asked);
  last_fd_ = std::move(fd);
  last_ = {last_fd_.get(), std::move(real)};
  return last_;
}

absl::StatusOr<LayerDirectory::Parent> LayerDirectory::FindParent(absl::string_view path) {
  std::string asked = SplitPath(path).first;
  if (last_fd_.valid() && asked == asked_) return last_;
  int error = 0;
  absl::StatusOr<Fd> fd = OpenDirectory(asked, &error);
  if (fd.ok()) return Keep(asked, asked, *std::move(fd), false);
  if (error != ELOOP && error != ENOTDIR && error != ENOENT) return fd.status();
  KILN_ASSIGN_OR_RETURN(std::string real, TreeReader({path_}).Resolve(asked, /*follow=*/true));
  fd = OpenDirectory(real, &error);
  if (error == ENOTDIR) return absl::NotFoundError(absl::StrCat(real, " is no directory"));
  KILN_RETURN_IF_ERROR(fd.status());
  return Keep(std::move(asked), std::move(real), *std::move(fd), false);
}

absl::StatusOr<LayerDirectory::Parent> LayerDirectory::MakeParent(absl::string_view path,
                                                                  GivesWay gives_way) {
  std::string asked = SplitPath(path).first;
  if (last_fd_.valid() && asked == asked_) return last_;
  int error = 0;
  absl::StatusOr<Fd> fd = OpenDirectory(asked, &error);
  if (fd.ok()) return Keep(asked, asked, *std::move(fd), false);
  if (error != ELOOP && error != ENOTDIR && error != ENOENT) return fd.status();
  KILN_ASSIGN_OR_RETURN(std::string real, TreeReader({path_}).ResolveMissing(asked));
  KILN_ASSIGN_OR_RETURN(Fd made, MakeDirectories(real, gives_way));
  return Keep(std::move(asked), std::move(real), std::move(made), false);
}

// mkdir -p; `path` has no symlinks.
absl::StatusOr<Fd> LayerDirectory::MakeDirectories(const std::string& path, GivesWay gives_way) {
  KILN_ASSIGN_OR_RETURN(Fd here, OpenFileAt(root_.get(), ".", O_PATH | O_DIRECTORY));
  std::string so_far(1, '/');
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    const std::string name(part), parent = so_far;
    so_far = JoinPath(so_far, name);
    absl::StatusOr<Fd> next = OpenFileAt(here.get(), name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    if (next.ok()) {
      here = *std::move(next);
      continue;
    }
    KILN_RETURN_IF_ERROR(Note(parent, here.get(), false));
    struct stat st;
    bool whiteout = false;
    if (::fstatat(here.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
      whiteout = overlay_form_ && IsWhiteout(st);
      if (S_ISDIR(st.st_mode)) return next.status();
      if (!whiteout && !gives_way(so_far)) return NotADirectory(so_far);
      if (::unlinkat(here.get(), name.c_str(), 0) != 0)
        return ErrnoStatus(errno, absl::StrCat("remove ", so_far));
    }
    if (::mkdirat(here.get(), name.c_str(), 0755) != 0)
      return ErrnoStatus(errno, absl::StrCat("create ", so_far));
    // The umask must not show in a tree.
    if (::fchmodat(here.get(), name.c_str(), 0755, 0) != 0)
      return ErrnoStatus(errno, absl::StrCat("chmod ", so_far));
    // What the whiteout removed must not come back.
    if (whiteout) KILN_RETURN_IF_ERROR(SetOpaque(Host(so_far)));
    KILN_ASSIGN_OR_RETURN(here, OpenFileAt(here.get(), name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
    directories_[so_far] = Directory{{}, /*implied=*/!whiteout, /*listed=*/false};
  }
  return here;
}

absl::StatusOr<bool> LayerDirectory::Remove(const Parent& parent, const std::string& name) {
  struct stat st;
  if (::fstatat(parent.fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return false;
    return ErrnoStatus(errno, absl::StrCat("stat ", JoinPath(parent.path, name)));
  }
  if (S_ISDIR(st.st_mode)) {
    KILN_RETURN_IF_ERROR(RemoveTree(Host(parent, name)));
  } else if (::unlinkat(parent.fd, name.c_str(), 0) != 0) {
    return ErrnoStatus(errno, absl::StrCat("remove ", JoinPath(parent.path, name)));
  }
  // The path that was asked for may have led through it; the real one cannot.
  if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)) asked_ = last_.path;
  return true;
}

void LayerDirectory::Listed(const std::string& path, const struct timespec times[2]) {
  directories_[path] = Directory{{times[0], times[1]}, false, true};
}

bool LayerDirectory::IsListed(const std::string& path) const {
  auto it = directories_.find(path);
  return it != directories_.end() && it->second.listed;
}

absl::Status LayerDirectory::Renew(const std::string& path) {
  if (IsListed(path)) return absl::OkStatus();
  const std::string host = Host(path);
  KILN_RETURN_IF_ERROR(RemoveXattrs(host));
  if (::lchown(host.c_str(), ::geteuid(), ::getegid()) != 0)
    return ErrnoStatus(errno, absl::StrCat("chown ", path));
  if (::chmod(host.c_str(), 0755) != 0) return ErrnoStatus(errno, absl::StrCat("chmod ", path));
  directories_[path] = Directory{{}, /*implied=*/true, /*listed=*/false};
  return absl::OkStatus();
}

absl::StatusOr<bool> LayerDirectory::IsDirectory(const std::string& path) const {
  int error = 0;
  const absl::Status status = OpenDirectory(path, &error).status();
  if (error == ELOOP || error == ENOTDIR || error == ENOENT) return false;
  KILN_RETURN_IF_ERROR(status);
  return true;
}

bool LayerDirectory::IsHidden(absl::string_view path,
                              absl::flat_hash_map<std::string, bool>* known) const {
  if (path == "/") return false;
  const std::string around = SplitPath(path).first;
  const auto found = known->find(around);
  if (found != known->end()) return found->second;
  const bool hidden = IsOpaque(Host(around)) || IsHidden(around, known);
  known->emplace(around, hidden);
  return hidden;
}

absl::Status LayerDirectory::AdoptAttributes(const TreeReader& lower, bool root_opaque) {
  if (lower.layers().empty()) return absl::OkStatus();
  absl::flat_hash_map<std::string, bool> hidden = {{"/", root_opaque}};
  for (auto& [path, directory] : directories_) {
    if (!directory.implied) continue;
    KILN_ASSIGN_OR_RETURN(const bool there, IsDirectory(path));
    if (!there || IsHidden(path, &hidden)) continue;
    absl::StatusOr<Entry> entry = lower.Lstat(path);
    if (absl::IsNotFound(entry.status())) continue;
    KILN_RETURN_IF_ERROR(entry.status());
    if (!S_ISDIR(entry->st.st_mode)) continue;
    KILN_RETURN_IF_ERROR(CopyMetadata(lower.HostPath(*entry, path), entry->st, Host(path)));
    directory.times[0] = entry->st.st_atim;
    directory.times[1] = entry->st.st_mtim;
  }
  return absl::OkStatus();
}

absl::Status LayerDirectory::SetTimes() {
  for (const auto& [path, directory] : directories_) {
    KILN_ASSIGN_OR_RETURN(const bool there, IsDirectory(path));
    if (!there) continue;
    if (::utimensat(AT_FDCWD, Host(path).c_str(), directory.times, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoStatus(errno, absl::StrCat("set times of ", path));
  }
  return absl::OkStatus();
}

}  // namespace kiln::store
