#include "store/file_copy.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::store {

namespace {

constexpr size_t kBufferSize = 256 << 10;

bool CannotCopyInKernel(int error) {
  return error == EXDEV || error == EINVAL || error == ENOSYS || error == EOPNOTSUPP ||
         error == EBADF || error == EPERM;
}

// Bytes [offset, offset + length) by read and write.
absl::Status CopyByHand(int from, int to, off_t offset, off_t length) {
  const auto buffer = std::make_unique<char[]>(kBufferSize);
  while (length > 0) {
    const size_t want = static_cast<size_t>(std::min<off_t>(length, kBufferSize));
    const ssize_t got = ::pread(from, buffer.get(), want, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "read");
    if (got == 0) return absl::OkStatus();
    for (ssize_t done = 0; done < got;) {
      const ssize_t n =
          ::pwrite(to, buffer.get() + done, static_cast<size_t>(got - done), offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "write");
      done += n;
    }
    offset += got;
    length -= got;
  }
  return absl::OkStatus();
}

absl::Status CopyRange(int from, int to, off_t offset, off_t length) {
  while (length > 0) {
    off_t in = offset, out = offset;
    const ssize_t n = ::copy_file_range(from, &in, to, &out, static_cast<size_t>(length), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && CannotCopyInKernel(errno)) return CopyByHand(from, to, offset, length);
    if (n < 0) return ErrnoStatus(errno, "write");
    // 0: the end, or a file system that cannot tell (procfs): reading decides.
    if (n == 0) return CopyByHand(from, to, offset, length);
    offset += n;
    length -= n;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CopyContent(int from, int to) {
  struct stat st;
  if (::fstat(from, &st) != 0) return ErrnoStatus(errno, "stat");
  if (st.st_size == 0) return absl::OkStatus();
  if (::ioctl(to, FICLONE, from) == 0) return absl::OkStatus();
  if (::ftruncate(to, st.st_size) != 0) return ErrnoStatus(errno, "truncate");
  for (off_t at = 0; at < st.st_size;) {
    off_t data = ::lseek(from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // a hole to the end
    if (data < 0) data = at;                // no knowledge of holes
    off_t hole = ::lseek(from, data, SEEK_HOLE);
    if (hole < 0) hole = st.st_size;
    KILN_RETURN_IF_ERROR(CopyRange(from, to, data, hole - data));
    at = hole;
  }
  return absl::OkStatus();
}

absl::Status SetXattrs(const std::string& host_path,
                       const std::map<std::string, std::string>& xattrs) {
  for (const auto& [name, value] : xattrs) {
    if (::lsetxattr(host_path.c_str(), name.c_str(), value.data(), value.size(), 0) == 0) continue;
    if (errno == ENOTSUP || errno == EPERM || errno == EACCES) continue;
    return ErrnoStatus(errno, absl::StrCat("setxattr ", name));
  }
  return absl::OkStatus();
}

}  // namespace kiln::store
