#include "store/beneath.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::store {

absl::StatusOr<Fd> OpenBeneath(int root, absl::string_view path, int flags, int* error) {
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const std::string relative = path == "/" ? "." : std::string(path.substr(1));
  for (;;) {
    const long fd = ::syscall(SYS_openat2, root, relative.c_str(), &how, sizeof how);
    *error = fd >= 0 ? 0 : errno;
    if (fd >= 0) return Fd(static_cast<int>(fd));
    if (errno != EINTR && errno != EAGAIN) return ErrnoStatus(errno, absl::StrCat("open ", path));
  }
}

absl::Status RemoveBeneath(int dir, const std::string& name) {
  if (::unlinkat(dir, name.c_str(), 0) == 0) return absl::OkStatus();
  if (errno != EISDIR && errno != EPERM) return ErrnoStatus(errno, absl::StrCat("remove ", name));
  std::vector<std::pair<std::string, bool>> todo = {{name, false}};  // path, emptied
  while (!todo.empty()) {
    const std::string path = todo.back().first;
    if (todo.back().second) {
      if (::unlinkat(dir, path.c_str(), AT_REMOVEDIR) != 0)
        return ErrnoStatus(errno, absl::StrCat("remove ", path));
      todo.pop_back();
      continue;
    }
    todo.back().second = true;
    int error = 0;
    const std::string rooted = absl::StrCat("/", path);
    KILN_ASSIGN_OR_RETURN(Fd fd, OpenBeneath(dir, rooted, O_RDONLY | O_DIRECTORY, &error));
    DIR* stream = ::fdopendir(fd.Release());
    if (stream == nullptr) return ErrnoStatus(errno, absl::StrCat("open ", path));
    const absl::Cleanup close = [stream] { ::closedir(stream); };
    while (const struct dirent* item = ::readdir(stream)) {
      const absl::string_view child(item->d_name);
      if (child == "." || child == "..") continue;
      if (::unlinkat(::dirfd(stream), item->d_name, 0) == 0) continue;
      if (errno != EISDIR && errno != EPERM)
        return ErrnoStatus(errno, absl::StrCat("remove ", path, "/", child));
      todo.emplace_back(absl::StrCat(path, "/", child), false);
    }
  }
  return absl::OkStatus();
}

}  // namespace kiln::store
