#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/fd.h"

namespace kiln::daemon {

// A directory tree seen as "/": paths in it are resolved by the kernel with
// openat2(RESOLVE_IN_ROOT), so that absolute symlinks are re-rooted and ".." is clamped, whatever
// the tree's content does meanwhile. Thread-safe; blocks on disk.
class Rootfs {
 public:
  static absl::StatusOr<Rootfs> Open(const std::string& path);

  int fd() const { return dir_.get(); }

  // openat2 with O_CLOEXEC added. kNotFound for what is absent; errors name `path`.
  absl::StatusOr<Fd> OpenAt(absl::string_view path, int flags, int mode = 0) const;

  // Where `path` leads, as a clean path without symlinks. What does not exist is kept as it is
  // written; `missing` counts those last components (0: it exists). kInvalidArgument for more than
  // 255 links and for a component below something that is no directory.
  struct Location {
    std::string path;
    size_t missing = 0;
  };
  absl::StatusOr<Location> Locate(absl::string_view path) const;

  // A regular file of at most `limit` bytes, read whole. Never blocks on fifos or devices.
  // kNotFound when absent; kInvalidArgument for anything that is no regular file.
  absl::StatusOr<std::string> ReadRegularFile(absl::string_view path, size_t limit) const;

  // Makes `path` and its missing parents with mode 0755 and that owner; links are followed.
  absl::Status MakeDirs(absl::string_view path, uint32_t uid, uint32_t gid) const;

 private:
  explicit Rootfs(Fd dir) : dir_(std::move(dir)) {}
  Fd dir_;
};

// "/a/b" -> ("/a", "b"); the parent of "/a" is "/". `path` is clean, absolute and not "/".
struct PathParts {
  std::string parent, name;
};
PathParts SplitAbsolute(absl::string_view path);

// "a//b/./c/.." -> "/a/b".
std::string CleanAbsolute(absl::string_view path);

}  // namespace kiln::daemon
