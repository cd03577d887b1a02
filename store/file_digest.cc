#include "store/file_digest.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::store {

namespace {

constexpr size_t kBufferSize = 256 << 10;

char TypeFlag(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFLNK:
      return '2';
    case S_IFCHR:
      return '3';
    case S_IFBLK:
      return '4';
    case S_IFDIR:
      return '5';
    case S_IFIFO:
      return '6';
    default:
      return '0';  // sockets too
  }
}

bool XattrCounts(absl::string_view name) {
  return name == "security.capability" ||
         (!absl::StartsWith(name, "security.") && !absl::StartsWith(name, "system."));
}

}  // namespace

std::string DigestHeader(const DigestedMetadata& metadata) {
  const struct stat& st = metadata.st;
  const bool is_link = S_ISLNK(st.st_mode);
  const bool is_device = S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode);
  std::string out =
      absl::StrCat("namemode", is_link ? 0777 : st.st_mode & 07777, "uid", st.st_uid, "gid",
                   st.st_gid, "size", S_ISREG(st.st_mode) ? st.st_size : 0, "typeflag",
                   std::string(1, TypeFlag(st.st_mode)), "linkname", is_link ? metadata.link : "");
  absl::StrAppend(&out, "unamegnamedevmajor", is_device ? major(st.st_rdev) : 0, "devminor",
                  is_device ? minor(st.st_rdev) : 0);
  for (const auto& [name, value] : metadata.xattrs) {
    if (XattrCounts(name)) absl::StrAppend(&out, name, value);
  }
  return out;
}

Digest DigestWithoutContent(const DigestedMetadata& metadata) {
  return Digest::Of(DigestHeader(metadata));
}

absl::StatusOr<Digest> DigestFile(const DigestedMetadata& metadata, int fd,
                                  const CancelToken& cancel) {
  Sha256 hash;
  hash.Update(DigestHeader(metadata));
  const auto buffer = std::make_unique<char[]>(kBufferSize);
  off_t done = 0;
  for (;;) {
    if (cancel.Cancelled()) return cancel.status();
    const ssize_t n = ::pread(fd, buffer.get(), kBufferSize, done);
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "read");
    }
    if (n == 0) break;
    hash.Update(absl::string_view(buffer.get(), static_cast<size_t>(n)));
    done += n;
  }
  if (done != metadata.st.st_size)
    return absl::FailedPreconditionError(absl::StrCat("the file changed while it was read: ", done,
                                                      " bytes instead of ", metadata.st.st_size));
  return hash.Finish();
}

}  // namespace kiln::store
