// What a layer takes over from others: copies, links, and what it copies up.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/status_macros.h"
#include "store/file_copy.h"
#include "store/layer_writer.h"

namespace kiln::store {

absl::StatusOr<Fd> LayerWriter::CopyUpDirs(const std::string& path) {
  MutexLock one_at_a_time(&shared_->copy_up_mu);
  KILN_ASSIGN_OR_RETURN(Fd here, OpenFileAt(root_->get(), ".", O_PATH | O_DIRECTORY));
  std::string walked;
  for (absl::string_view part : absl::StrSplit(absl::string_view(path).substr(1), '/')) {
    const std::string name(part);
    absl::StrAppend(&walked, "/", name);
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    Fd next(::openat(here.get(), name.c_str(), flags));
    if (!next.valid()) {
      KILN_ASSIGN_OR_RETURN(const Entry entry, reader_.Lstat(walked));
      if (S_ISLNK(entry.st.st_mode))
        return absl::InvalidArgumentError(absl::StrCat(walked, ": is a symlink, not a directory"));
      if (!S_ISDIR(entry.st.st_mode))
        return absl::FailedPreconditionError(absl::StrCat(walked, ": not a directory"));
      KILN_RETURN_IF_ERROR(CopyUpDir(here.get(), name, walked));
      next = Fd(::openat(here.get(), name.c_str(), flags));
      if (!next.valid()) return ErrnoStatus(errno, absl::StrCat("open ", walked));
    }
    here = std::move(next);
  }
  return here;
}

absl::Status LayerWriter::CopyUpDir(int parent, const std::string& name, const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const Entry entry, reader_.Lstat(path));
  KILN_ASSIGN_OR_RETURN(const auto xattrs, reader_.Xattrs(entry, path));
  if (::mkdirat(parent, name.c_str(), 0700) != 0)
    return ErrnoStatus(errno, absl::StrCat("mkdir ", path));
  KILN_RETURN_IF_ERROR(Annotate(SetXattrs(UpperPath(path), xattrs), path));
  const Place place{path, name, parent};
  KILN_RETURN_IF_ERROR(Finish(place, Wanted(Attributes(), entry.st), false));
  const struct timespec times[2] = {entry.st.st_atim, entry.st.st_mtim};
  return SetTimes(place, times);
}

absl::StatusOr<bool> LayerWriter::TryHardlink(const std::string& host, const Entry& entry,
                                              const Wanted& wanted, const Place& place) {
  if (!overlay_form_ || !wanted.Agrees(entry.st) || !wanted.TimeAgrees(entry.st)) return false;
  const std::pair<dev_t, ino_t> inode(entry.st.st_dev, entry.st.st_ino);
  {
    MutexLock lock(&shared_->mu);
    if (!shared_->taken.insert(inode).second) return false;
  }
  // Whole directories are taken over: one look-up of a short name instead of a long path.
  const size_t slash = host.rfind('/');
  const absl::string_view dir = absl::string_view(host).substr(0, slash + 1);
  if (source_.path != dir) {
    source_.path = std::string(dir);
    source_.fd = Fd();
  } else if (!source_.fd.valid()) {
    source_.fd = Fd(::open(source_.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  const bool opened = source_.fd.valid();
  const int linked =
      ::linkat(opened ? source_.fd.get() : AT_FDCWD, host.c_str() + (opened ? slash + 1 : 0),
               place.dir, place.name.c_str(), 0);
  if (linked == 0) return true;
  const int error = errno;
  if (error == EXDEV || error == EMLINK || error == EPERM) return false;
  MutexLock lock(&shared_->mu);
  shared_->taken.erase(inode);
  return ErrnoStatus(error, absl::StrCat("link ", place.path));
}

absl::Status LayerWriter::CopyContentAs(const TreeReader& from, absl::string_view from_path,
                                        const Entry& entry, const Wanted& wanted,
                                        const Place& place) {
  KILN_ASSIGN_OR_RETURN(const Fd source, from.Open(from_path));
  KILN_ASSIGN_OR_RETURN(const auto xattrs, from.Xattrs(entry, from_path));
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
  KILN_ASSIGN_OR_RETURN(const Fd target, OpenFileAt(place.dir, place.name, flags, 0600));
  absl::Cleanup discard = [&] { RemoveLeaf(place.dir, place.name); };
  KILN_RETURN_IF_ERROR(Annotate(CopyContent(source.get(), target.get()), place.path));
  struct stat st;
  Wanted attributes = wanted;
  attributes.mtime.reset();
  KILN_RETURN_IF_ERROR(FinishFile(target.get(), place.path, attributes, &st));
  // After the owner: chown drops file capabilities.
  KILN_RETURN_IF_ERROR(Annotate(SetXattrs(UpperPath(place.path), xattrs), place.path));
  struct timespec times[2] = {entry.st.st_atim, entry.st.st_mtim};
  if (wanted.mtime.has_value()) times[0] = times[1] = absl::ToTimespec(*wanted.mtime);
  if (::futimens(target.get(), times) != 0)
    return ErrnoStatus(errno, absl::StrCat("utimes ", place.path));
  std::move(discard).Cancel();
  return absl::OkStatus();
}

absl::Status LayerWriter::Take(const TreeReader& from, absl::string_view from_path,
                               const Entry& entry, absl::string_view path,
                               const Attributes& attributes, bool is_new) {
  if (!S_ISREG(entry.st.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(from_path, ": not a regular file"));
  const std::string host = from.HostPath(entry, from_path);
  const std::string& from_layer = from.layers()[static_cast<size_t>(entry.layer)];
  const Wanted wanted(attributes, entry.st);
  // What this very layer has may still change, and with it every name of the inode.
  const bool shareable = from_layer != reader_.layers().back();
  bool linked = false;
  KILN_ASSIGN_OR_RETURN(const Place place, Put(path, is_new, [&](const Place& at) -> absl::Status {
                          if (shareable) {
                            KILN_ASSIGN_OR_RETURN(linked, TryHardlink(host, entry, wanted, at));
                          }
                          return linked ? absl::OkStatus()
                                        : CopyContentAs(from, from_path, entry, wanted, at);
                        }));
  Changed(place.path);
  if (recorder_ == nullptr || !(linked || wanted.Agrees(entry.st))) return absl::OkStatus();
  if (const auto digest = recorder_->Known(from_layer, from_path))
    recorder_->Recorded(place.path, *digest);
  return absl::OkStatus();
}

absl::Status LayerWriter::CopyUp(const std::string& path, struct stat* st) {
  KILN_ASSIGN_OR_RETURN(const Entry entry, reader_.Lstat(path));
  *st = entry.st;
  if (entry.layer == upper_index()) return absl::OkStatus();
  if (S_ISDIR(entry.st.st_mode)) return OpenUpperDir(path).status();
  Attributes same;
  same.uid = entry.st.st_uid;
  same.gid = entry.st.st_gid;
  same.mode = entry.st.st_mode & kPermissionBits;
  same.mtime = absl::TimeFromTimespec(entry.st.st_mtim);
  // The name is free in the upper layer; Clear in the calls below lets a lower file be covered.
  KILN_ASSIGN_OR_RETURN(const Place place, Clear(path, false));
  if (S_ISREG(entry.st.st_mode)) {
    KILN_RETURN_IF_ERROR(CopyContentAs(reader_, path, entry, Wanted(same, entry.st), place));
  } else {
    const int made =
        S_ISLNK(entry.st.st_mode)
            ? ::symlinkat(entry.link.c_str(), place.dir, place.name.c_str())
            : ::mknodat(place.dir, place.name.c_str(), entry.st.st_mode & S_IFMT, entry.st.st_rdev);
    if (made != 0) return ErrnoStatus(errno, absl::StrCat("copy up ", path));
    KILN_RETURN_IF_ERROR(Finish(place, Wanted(same, entry.st), S_ISLNK(entry.st.st_mode)));
  }
  Changed(path);
  if (::fstatat(place.dir, place.name.c_str(), st, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, absl::StrCat("stat ", path));
  return absl::OkStatus();
}

absl::Status LayerWriter::Unshare(const std::string& path, struct stat* st) {
  if (!S_ISREG(st->st_mode) || st->st_nlink == 1 || own_links_.contains(st->st_ino))
    return absl::OkStatus();
  const auto [parent, name] = SplitPath(path);
  KILN_ASSIGN_OR_RETURN(const int dir, OpenUpperDir(parent));
  const std::string temporary = absl::StrCat(".kiln-unshare-", st->st_ino);
  const Place place{absl::StrCat(parent == "/" ? "" : parent, "/", temporary), temporary, dir};
  KILN_ASSIGN_OR_RETURN(const Entry entry, reader_.Lstat(path));
  KILN_RETURN_IF_ERROR(CopyContentAs(reader_, path, entry, Wanted(Attributes(), entry.st), place));
  if (::renameat(dir, temporary.c_str(), dir, name.c_str()) != 0 ||
      ::fstatat(dir, name.c_str(), st, AT_SYMLINK_NOFOLLOW) != 0) {
    const int error = errno;
    RemoveLeaf(dir, temporary);
    return ErrnoStatus(error, absl::StrCat("replace ", path));
  }
  return absl::OkStatus();
}

}  // namespace kiln::store
