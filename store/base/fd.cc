#include "store/base/fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln {

void Fd::Reset() {
  // Linux releases the descriptor whatever close returns; see close(2), EINTR.
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

absl::Status Fd::Close() {
  if (fd_ < 0) return absl::OkStatus();
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) return ErrnoStatus(errno, "close");
  return absl::OkStatus();
}

absl::StatusOr<Fd> OpenFileAt(int dir_fd, const std::string& path, int flags, int mode) {
  for (;;) {
    const int fd = ::openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) return Fd(fd);
    if (errno != EINTR) return ErrnoStatus(errno, absl::StrCat("open ", path));
  }
}

absl::StatusOr<Fd> OpenFile(const std::string& path, int flags, int mode) {
  return OpenFileAt(AT_FDCWD, path, flags, mode);
}

absl::StatusOr<std::string> ReadAll(int fd, size_t limit) {
  std::string out;
  struct stat st;
  if (::fstat(fd, &st) == 0 && st.st_size > 0)
    out.reserve(std::min<size_t>(limit, static_cast<size_t>(st.st_size)) + 1);
  char buffer[64 << 10];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n == 0) return out;
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "read");
    }
    if (out.size() + static_cast<size_t>(n) > limit)
      return absl::ResourceExhaustedError(absl::StrCat("more than ", limit, " bytes"));
    out.append(buffer, static_cast<size_t>(n));
  }
}

absl::StatusOr<std::string> ReadFileToString(const std::string& path, size_t limit) {
  KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY));
  return Annotate(ReadAll(fd.get(), limit), path);
}

absl::Status WriteAll(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "write");
    }
    data.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status WriteFileAtomic(const std::string& path, absl::string_view data, int mode) {
  const std::string temporary = absl::StrCat(path, ".tmp");
  absl::Status status = [&]() -> absl::Status {
    KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode));
    KILN_RETURN_IF_ERROR(WriteAll(fd.get(), data));
    if (::fsync(fd.get()) != 0) return ErrnoStatus(errno, "fsync");
    KILN_RETURN_IF_ERROR(fd.Close());
    if (::rename(temporary.c_str(), path.c_str()) != 0) return ErrnoStatus(errno, "rename");
    return absl::OkStatus();
  }();
  if (!status.ok()) ::unlink(temporary.c_str());  // best effort: the error above is what matters
  return Annotate(status, absl::StrCat("write ", path));
}

}  // namespace kiln
