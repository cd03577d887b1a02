#include "store/fsutil/directory_target.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::fsutil {
namespace {

struct timespec Modified(const Stat& stat) {
  int64_t seconds = stat.mod_time_ns / 1000000000, rest = stat.mod_time_ns % 1000000000;
  if (rest < 0) {
    --seconds;
    rest += 1000000000;
  }
  struct timespec out;
  out.tv_sec = seconds;
  out.tv_nsec = rest;
  return out;
}

absl::Status SetTime(int dir_fd, const char* name, int flags, const Stat& stat) {
  struct timespec times[2] = {{0, UTIME_NOW}, Modified(stat)};
  times[0].tv_nsec = UTIME_OMIT;
  if (::utimensat(dir_fd, name, times, flags) != 0)
    return ErrnoStatus(errno, absl::StrCat("set time of ", stat.path));
  return absl::OkStatus();
}

// Metadata of an open file or directory; mode last, as chown clears suid.
absl::Status SetAttributes(int fd, const Stat& stat) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return ErrnoStatus(errno, absl::StrCat("stat ", stat.path));
  bool chowned = false;
  if (st.st_uid != stat.uid || st.st_gid != stat.gid) {
    if (::fchown(fd, stat.uid, stat.gid) != 0)
      return ErrnoStatus(errno, absl::StrCat("chown ", stat.path));
    chowned = true;
  }
  const mode_t mode = PosixModeFromGo(stat.mode) & 07777;
  if ((chowned || (st.st_mode & 07777) != mode) && ::fchmod(fd, mode) != 0)
    return ErrnoStatus(errno, absl::StrCat("chmod ", stat.path));
  for (const auto& [name, value] : stat.xattrs) {
    // Not every file system and user may: upstream's client ignores it too.
    (void)::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0);
  }
  struct timespec times[2] = {{0, UTIME_OMIT}, Modified(stat)};
  if (::futimens(fd, times) != 0)
    return ErrnoStatus(errno, absl::StrCat("set time of ", stat.path));
  return absl::OkStatus();
}

// Owner, mode and time of what cannot be opened: links, devices, pipes.
absl::Status SetAttributesAt(int dir_fd, const std::string& name, const Stat& stat) {
  struct stat st;
  if (::fstatat(dir_fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, absl::StrCat("stat ", stat.path));
  if ((st.st_uid != stat.uid || st.st_gid != stat.gid) &&
      ::fchownat(dir_fd, name.c_str(), stat.uid, stat.gid, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, absl::StrCat("chown ", stat.path));
  // The temporary name is ours and no link, so following is harmless (there is no lchmod).
  if (!IsSymlink(stat.mode) &&
      ::fchmodat(dir_fd, name.c_str(), PosixModeFromGo(stat.mode) & 07777, 0) != 0)
    return ErrnoStatus(errno, absl::StrCat("chmod ", stat.path));
  return SetTime(dir_fd, name.c_str(), AT_SYMLINK_NOFOLLOW, stat);
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

// One directory being emptied.
struct Emptying {
  std::unique_ptr<DIR, CloseDir> handle;
  std::string name;  // in the directory before it
};

absl::StatusOr<Emptying> OpenForRemoval(int dir_fd, const std::string& name) {
  const int fd = ::openat(dir_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("open ", name));
  DIR* handle = ::fdopendir(fd);
  if (handle == nullptr) {
    const int err = errno;
    ::close(fd);
    return ErrnoStatus(err, absl::StrCat("list ", name));
  }
  return Emptying{std::unique_ptr<DIR, CloseDir>(handle), name};
}

}  // namespace

absl::Status RemoveTree(int dir_fd, const std::string& name) {
  if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
  if (errno != EISDIR && errno != EPERM) return ErrnoStatus(errno, absl::StrCat("remove ", name));
  if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) == 0) return absl::OkStatus();
  std::vector<Emptying> stack;
  KILN_ASSIGN_OR_RETURN(Emptying top, OpenForRemoval(dir_fd, name));
  stack.push_back(std::move(top));
  while (!stack.empty()) {
    const int fd = ::dirfd(stack.back().handle.get());
    errno = 0;
    const dirent* entry = ::readdir(stack.back().handle.get());
    if (entry == nullptr) {
      if (errno != 0) return ErrnoStatus(errno, absl::StrCat("list ", stack.back().name));
      const std::string done = stack.back().name;
      stack.pop_back();
      const int parent = stack.empty() ? dir_fd : ::dirfd(stack.back().handle.get());
      if (::unlinkat(parent, done.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
        return ErrnoStatus(errno, absl::StrCat("remove ", done));
      continue;
    }
    const std::string child = entry->d_name;
    if (child == "." || child == "..") continue;
    if (::unlinkat(fd, child.c_str(), 0) == 0 || errno == ENOENT) continue;
    if (errno != EISDIR && errno != EPERM)
      return ErrnoStatus(errno, absl::StrCat("remove ", child));
    KILN_ASSIGN_OR_RETURN(Emptying below, OpenForRemoval(fd, child));
    stack.push_back(std::move(below));
  }
  return absl::OkStatus();
}

// A file under its temporary name.
class DirectoryTarget::File : public ReceiveFile {
 public:
  File(DirectoryTarget* target, Place place, std::string temporary, Fd fd, const Stat& stat)
      : target_(target),
        place_(std::move(place)),
        temporary_(std::move(temporary)),
        fd_(std::move(fd)),
        stat_(stat) {}

  ~File() override {
    if (!closed_) ::unlinkat(place_.dir->get(), temporary_.c_str(), 0);
  }

  absl::Status Append(absl::string_view data) override {
    return Annotate(WriteAll(fd_.get(), data), stat_.path);
  }

  absl::Status Close() override {
    KILN_RETURN_IF_ERROR(SetAttributes(fd_.get(), stat_));
    KILN_RETURN_IF_ERROR(Annotate(fd_.Close(), stat_.path));
    KILN_RETURN_IF_ERROR(target_->Install(place_, temporary_, stat_.path));
    closed_ = true;
    return absl::OkStatus();
  }

 private:
  DirectoryTarget* const target_;
  const Place place_;
  const std::string temporary_;
  Fd fd_;
  const Stat stat_;
  bool closed_ = false;
};

absl::StatusOr<std::unique_ptr<DirectoryTarget>> DirectoryTarget::Open(const std::string& root,
                                                                       bool allow_devices) {
  KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(root, O_RDONLY | O_DIRECTORY));
  return std::unique_ptr<DirectoryTarget>(new DirectoryTarget(std::move(fd), allow_devices));
}

std::string DirectoryTarget::NewTemporaryPrefix() {
  absl::BitGen gen;
  return absl::StrCat(".kiln-", absl::Hex(absl::Uniform<uint32_t>(gen), absl::kZeroPad8), "-");
}

std::string DirectoryTarget::TemporaryName() { return absl::StrCat(temporary_prefix_, counter_++); }

absl::StatusOr<DirectoryTarget::Place> DirectoryTarget::Find(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return Place{root_, path};
  const std::string dir = path.substr(0, slash);
  if (cached_dir_ == nullptr || cached_path_ != dir) {
    struct open_how how = {};
    how.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const long fd = ::syscall(SYS_openat2, root_->get(), dir.c_str(), &how, sizeof how);
    if (fd < 0) return ErrnoStatus(errno, absl::StrCat("open ", dir));
    cached_dir_ = std::make_shared<Fd>(static_cast<int>(fd));
    cached_path_ = dir;
  }
  return Place{cached_dir_, path.substr(slash + 1)};
}

absl::Status DirectoryTarget::Install(const Place& place, const std::string& temporary,
                                      const std::string& path) {
  const int dir = place.dir->get();
  if (::renameat(dir, temporary.c_str(), dir, place.name.c_str()) == 0) return absl::OkStatus();
  if (errno != EISDIR && errno != ENOTEMPTY && errno != EEXIST)
    return ErrnoStatus(errno, absl::StrCat("write ", path));
  KILN_RETURN_IF_ERROR(Annotate(RemoveTree(dir, place.name), absl::StrCat("replace ", path)));
  if (::renameat(dir, temporary.c_str(), dir, place.name.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrCat("write ", path));
  return absl::OkStatus();
}

absl::Status DirectoryTarget::MakeDir(const Stat& stat) {
  KILN_ASSIGN_OR_RETURN(const Place place, Find(stat.path));
  const int dir = place.dir->get();
  const mode_t mode = (PosixModeFromGo(stat.mode) & 07777) | 0700;
  if (::mkdirat(dir, place.name.c_str(), mode) == 0) return absl::OkStatus();
  if (errno != EEXIST) return ErrnoStatus(errno, absl::StrCat("mkdir ", stat.path));
  struct stat st;
  if (::fstatat(dir, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoStatus(errno, absl::StrCat("stat ", stat.path));
  if (S_ISDIR(st.st_mode)) {
    // A user without root's powers must be able to fill it; FinishDir sets the final mode.
    if ((st.st_mode & 0700) != 0700 && ::fchmodat(dir, place.name.c_str(), mode, 0) != 0)
      return ErrnoStatus(errno, absl::StrCat("chmod ", stat.path));
    return absl::OkStatus();
  }
  KILN_RETURN_IF_ERROR(RemoveTree(dir, place.name));
  if (::mkdirat(dir, place.name.c_str(), mode) != 0)
    return ErrnoStatus(errno, absl::StrCat("mkdir ", stat.path));
  return absl::OkStatus();
}

absl::Status DirectoryTarget::FinishDir(const Stat& stat) {
  KILN_ASSIGN_OR_RETURN(const Place place, Find(stat.path));
  KILN_ASSIGN_OR_RETURN(
      const Fd fd, OpenFileAt(place.dir->get(), place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  return SetAttributes(fd.get(), stat);
}

absl::Status DirectoryTarget::MakeSymlink(const Stat& stat) {
  KILN_ASSIGN_OR_RETURN(const Place place, Find(stat.path));
  const std::string temporary = TemporaryName();
  const int dir = place.dir->get();
  if (::symlinkat(stat.linkname.c_str(), dir, temporary.c_str()) != 0)
    return ErrnoStatus(errno, absl::StrCat("symlink ", stat.path));
  absl::Status status = SetAttributesAt(dir, temporary, stat);
  if (status.ok()) status = Install(place, temporary, stat.path);
  if (!status.ok()) ::unlinkat(dir, temporary.c_str(), 0);
  return status;
}

absl::Status DirectoryTarget::MakeNode(const Stat& stat) {
  KILN_ASSIGN_OR_RETURN(const Place place, Find(stat.path));
  const std::string temporary = TemporaryName();
  const int dir = place.dir->get();
  const dev_t device =
      makedev(static_cast<unsigned>(stat.devmajor), static_cast<unsigned>(stat.devminor));
  if (::mknodat(dir, temporary.c_str(), PosixModeFromGo(stat.mode), device) != 0)
    return ErrnoStatus(errno, absl::StrCat("mknod ", stat.path));
  absl::Status status = SetAttributesAt(dir, temporary, stat);
  if (status.ok()) status = Install(place, temporary, stat.path);
  if (!status.ok()) ::unlinkat(dir, temporary.c_str(), 0);
  return status;
}

absl::Status DirectoryTarget::MakeHardlink(const Stat& stat) {
  KILN_ASSIGN_OR_RETURN(const Place from, Find(stat.linkname));
  KILN_ASSIGN_OR_RETURN(const Place place, Find(stat.path));
  const std::string temporary = TemporaryName();
  const int dir = place.dir->get();
  if (::linkat(from.dir->get(), from.name.c_str(), dir, temporary.c_str(), 0) != 0)
    return ErrnoStatus(errno, absl::StrCat("link ", stat.path, " to ", stat.linkname));
  absl::Status status = Install(place, temporary, stat.path);
  // rename(2) does nothing when both names are the same file, and the temporary one stays.
  ::unlinkat(dir, temporary.c_str(), 0);
  return status;
}

absl::StatusOr<std::unique_ptr<ReceiveFile>> DirectoryTarget::CreateFile(const Stat& stat) {
  KILN_ASSIGN_OR_RETURN(Place place, Find(stat.path));
  std::string temporary = TemporaryName();
  KILN_ASSIGN_OR_RETURN(Fd fd, OpenFileAt(place.dir->get(), temporary, O_WRONLY | O_CREAT | O_EXCL,
                                          static_cast<int>(PosixModeFromGo(stat.mode) & 0777)));
  return std::unique_ptr<ReceiveFile>(
      new File(this, std::move(place), std::move(temporary), std::move(fd), stat));
}

absl::Status DirectoryTarget::WriteFile(const Stat& stat, std::string data) {
  KILN_ASSIGN_OR_RETURN(std::unique_ptr<ReceiveFile> file, CreateFile(stat));
  KILN_RETURN_IF_ERROR(file->Append(data));
  return file->Close();
}

absl::Status DirectoryTarget::Remove(const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const Place place, Find(path));
  cached_dir_.reset();  // may be inside of what goes
  return Annotate(RemoveTree(place.dir->get(), place.name), absl::StrCat("remove ", path));
}

}  // namespace kiln::fsutil
