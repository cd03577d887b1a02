#include "store/snapshot/copy_entry.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/file_copy.h"
#include "store/tree.h"

namespace kiln::store {
namespace {

constexpr char kOpaque[] = "trusted.overlay.opaque";
constexpr size_t kMaxXattrBytes = 64 << 10;  // XATTR_SIZE_MAX

}  // namespace

absl::StatusOr<std::string> ReadXattr(const std::string& path, const char* name) {
  std::string value(256, '\0');
  for (;;) {
    const ssize_t n = ::lgetxattr(path.c_str(), name, value.data(), value.size());
    if (n >= 0) {
      value.resize(static_cast<size_t>(n));
      return value;
    }
    if (errno == ERANGE && value.size() < kMaxXattrBytes) {
      value.resize(kMaxXattrBytes);
      continue;
    }
    if (errno == ENODATA || errno == ENOTSUP || errno == EPERM) return std::string();
    return ErrnoStatus(errno, absl::StrCat("read xattr ", name, " of ", path));
  }
}

absl::StatusOr<std::string> ReadLink(const std::string& path) {
  std::string target(PATH_MAX, '\0');
  const ssize_t n = ::readlink(path.c_str(), target.data(), target.size());
  if (n < 0) return ErrnoStatus(errno, absl::StrCat("read link ", path));
  target.resize(static_cast<size_t>(n));
  return target;
}

bool IsOpaque(const std::string& directory) {
  char value[4];
  return ::lgetxattr(directory.c_str(), kOpaque, value, sizeof value) == 1 && value[0] == 'y';
}

absl::Status SetOpaque(const std::string& directory) {
  if (::lsetxattr(directory.c_str(), kOpaque, "y", 1, 0) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("mark as opaque ", directory));
}

absl::Status MakeWhiteout(const std::string& path) {
  if (::mknod(path.c_str(), S_IFCHR, 0) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("make whiteout ", path));
}

absl::Status CopyBody(const std::string& from, const struct stat& st, const std::string& to) {
  if (S_ISREG(st.st_mode)) {
    KILN_ASSIGN_OR_RETURN(Fd in, OpenFile(from, O_RDONLY | O_NOFOLLOW));
    KILN_ASSIGN_OR_RETURN(Fd out, OpenFile(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    KILN_RETURN_IF_ERROR(
        Annotate(CopyContent(in.get(), out.get()), absl::StrCat("copy ", from, " to ", to)));
    return Annotate(out.Close(), to);
  }
  if (S_ISLNK(st.st_mode)) {
    KILN_ASSIGN_OR_RETURN(const std::string target, ReadLink(from));
    if (::symlink(target.c_str(), to.c_str()) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, absl::StrCat("create link ", to));
  }
  if (::mknod(to.c_str(), st.st_mode, st.st_rdev) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("create node ", to));
}

absl::Status CopyMetadata(const std::string& from, const struct stat& st, const std::string& to) {
  if (::lchown(to.c_str(), st.st_uid, st.st_gid) != 0) {
    // Without privileges everything belongs to us, and so it does in the copy.
    if (errno != EPERM || ::geteuid() == 0) return ErrnoStatus(errno, absl::StrCat("chown ", to));
  }
  if (!S_ISLNK(st.st_mode) && ::chmod(to.c_str(), st.st_mode & 07777) != 0)
    return ErrnoStatus(errno, absl::StrCat("chmod ", to));
  KILN_ASSIGN_OR_RETURN(const auto xattrs, HostXattrs(from));
  if (xattrs.empty()) return absl::OkStatus();
  return SetXattrs(to, xattrs);
}

absl::Status RemoveXattrs(const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const auto xattrs, HostXattrs(path));
  for (const auto& [name, value] : xattrs) {
    if (::lremovexattr(path.c_str(), name.c_str()) == 0 || errno == ENODATA) continue;
    if (errno == ENOTSUP || errno == EPERM || errno == EACCES) continue;
    return ErrnoStatus(errno, absl::StrCat("remove xattr ", name, " of ", path));
  }
  return absl::OkStatus();
}

absl::Status CopyTimes(const struct stat& st, const std::string& to) {
  const struct timespec times[2] = {st.st_atim, st.st_mtim};
  if (::utimensat(AT_FDCWD, to.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("set times of ", to));
}

absl::StatusOr<bool> Hardlink(const std::string& from, const std::string& to) {
  if (::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), 0) == 0) return true;
  if (errno == EXDEV || errno == EMLINK || errno == EPERM || errno == EOPNOTSUPP) return false;
  return ErrnoStatus(errno, absl::StrCat("link ", from, " to ", to));
}

}  // namespace kiln::store
