#include "daemon/executor/rootfs.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <deque>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr int kMaxLinks = 255;  // as BuildKit's resolver

absl::StatusOr<std::string> ReadLink(int fd) {
  std::string target(PATH_MAX, '\0');
  const ssize_t n = ::readlinkat(fd, "", target.data(), target.size());
  if (n < 0) return ErrnoStatus(errno, "read a symlink");
  target.resize(static_cast<size_t>(n));
  return target;
}

std::string Joined(const std::vector<std::string>& parts) {
  return absl::StrCat("/", absl::StrJoin(parts, "/"));
}

void PushFront(std::deque<std::string>& todo, absl::string_view path) {
  std::vector<std::string> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  todo.insert(todo.begin(), parts.begin(), parts.end());
}

}  // namespace

PathParts SplitAbsolute(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return {std::string(slash == 0 ? "/" : path.substr(0, slash)),
          std::string(path.substr(slash + 1))};
}

std::string CleanAbsolute(absl::string_view path) {
  std::vector<std::string> parts;
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else {
      parts.emplace_back(part);
    }
  }
  return Joined(parts);
}

absl::StatusOr<Rootfs> Rootfs::Open(const std::string& path) {
  KILN_ASSIGN_OR_RETURN(Fd dir, OpenFile(path, O_PATH | O_DIRECTORY));
  return Rootfs(std::move(dir));
}

absl::StatusOr<Fd> Rootfs::OpenAt(absl::string_view path, int flags, int mode) const {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.mode = static_cast<uint64_t>(mode);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const std::string text(path);
  for (;;) {
    const int fd =
        static_cast<int>(::syscall(SYS_openat2, dir_.get(), text.c_str(), &how, sizeof how));
    if (fd >= 0) return Fd(fd);
    // EAGAIN: something was renamed while ".." was being checked; openat2(2) says to try again.
    if (errno != EINTR && errno != EAGAIN) return ErrnoStatus(errno, absl::StrCat("open ", text));
  }
}

absl::StatusOr<Rootfs::Location> Rootfs::Locate(absl::string_view path) const {
  std::deque<std::string> todo;
  PushFront(todo, path);
  std::vector<std::string> done;
  size_t missing = 0;
  int links = 0;
  while (!todo.empty()) {
    const std::string part = std::move(todo.front());
    todo.pop_front();
    if (part == ".") continue;
    if (part == "..") {
      if (!done.empty()) done.pop_back();
      if (missing > 0) --missing;
      continue;
    }
    done.push_back(part);
    if (missing > 0) {
      ++missing;
      continue;
    }
    absl::StatusOr<Fd> fd = OpenAt(Joined(done), O_PATH | O_NOFOLLOW);
    if (absl::IsNotFound(fd.status())) {
      missing = 1;
      continue;
    }
    if (!fd.ok()) return fd.status();
    struct stat st;
    if (::fstat(fd->get(), &st) != 0) return ErrnoStatus(errno, absl::StrCat("stat ", path));
    if (S_ISLNK(st.st_mode)) {
      if (++links > kMaxLinks)
        return absl::InvalidArgumentError(absl::StrCat(path, ": too many links"));
      KILN_ASSIGN_OR_RETURN(const std::string target, ReadLink(fd->get()));
      done.pop_back();
      if (!target.empty() && target[0] == '/') done.clear();
      PushFront(todo, target);
    } else if (!S_ISDIR(st.st_mode) && !todo.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": ", Joined(done), " is not a directory"));
    }
  }
  return Location{Joined(done), missing};
}

absl::StatusOr<std::string> Rootfs::ReadRegularFile(absl::string_view path, size_t limit) const {
  // O_PATH first: opening a fifo or a device has effects, or waits for ever.
  KILN_ASSIGN_OR_RETURN(const Fd found, OpenAt(path, O_PATH));
  struct stat st;
  if (::fstat(found.get(), &st) != 0) return ErrnoStatus(errno, absl::StrCat("stat ", path));
  if (!S_ISREG(st.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  KILN_ASSIGN_OR_RETURN(const Fd file,
                        OpenFile(absl::StrCat("/proc/self/fd/", found.get()), O_RDONLY));
  return Annotate(ReadAll(file.get(), limit), path);
}

absl::Status Rootfs::MakeDirs(absl::string_view path, uint32_t uid, uint32_t gid) const {
  KILN_ASSIGN_OR_RETURN(const Location where, Locate(path));
  const std::vector<std::string> parts = absl::StrSplit(where.path, '/', absl::SkipEmpty());
  std::vector<std::string> made(parts.begin(), parts.end() - static_cast<long>(where.missing));
  for (size_t i = made.size(); i < parts.size(); ++i) {
    KILN_ASSIGN_OR_RETURN(const Fd parent, OpenAt(Joined(made), O_PATH | O_DIRECTORY));
    made.push_back(parts[i]);
    if (::mkdirat(parent.get(), parts[i].c_str(), 0755) != 0) {
      if (errno == EEXIST) continue;
      return ErrnoStatus(errno, absl::StrCat("make directory ", Joined(made)));
    }
    // After mkdir, so that the daemon's umask plays no part.
    if (::fchmodat(parent.get(), parts[i].c_str(), 0755, 0) != 0 ||
        ::fchownat(parent.get(), parts[i].c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoStatus(errno, absl::StrCat("own directory ", Joined(made)));
  }
  if (where.missing > 0) return absl::OkStatus();
  return OpenAt(where.path, O_PATH | O_DIRECTORY).status();
}

}  // namespace kiln::daemon
