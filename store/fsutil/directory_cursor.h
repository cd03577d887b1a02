#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "store/base/fd.h"
#include "store/fsutil/packet.h"

namespace kiln::fsutil {

// Steps through a directory in protocol order (depth first, siblings in byte order), the root
// itself left out. A directory is listed when the cursor steps past it, so its content may change
// until then. Not thread-safe; blocking.
class DirectoryCursor {
 public:
  // kNotFound, or kInvalidArgument when `root` is not a directory. A symlink as the root is
  // followed.
  static absl::StatusOr<std::unique_ptr<DirectoryCursor>> Open(const std::string& root);

  // False at the end. A directory that vanished counts as empty.
  absl::StatusOr<bool> Next();

  // Of the entry that Next stepped to.
  const std::string& path() const { return path_; }
  bool is_dir() const { return is_dir_; }
  // Leaves out what is below the current directory.
  void SkipChildren() { descend_ = false; }

  // Reads the entry's metadata; false when it vanished. A second name of a file that was loaded
  // before becomes a hard link to it. Sockets look like empty files. Without xattrs.
  absl::StatusOr<bool> Load(Stat* stat);
  // Adds the xattrs of the same entry; overlayfs's own and com.apple.* are left out.
  void LoadXattrs(Stat* stat) const;

 private:
  struct Child {
    std::string name;
    bool is_dir;
  };
  struct Level {
    std::string prefix;  // "" or "a/b/"
    std::vector<Child> children;
    size_t next = 0;
  };

  DirectoryCursor(std::string root, Fd root_fd)
      : root_(std::move(root)), root_fd_(std::move(root_fd)) {}
  absl::Status Enter(const std::string& dir);

  const std::string root_;
  Fd root_fd_;
  std::vector<Level> levels_;
  std::string path_;
  bool started_ = false, is_dir_ = false, descend_ = false;
  // First loaded name of each file with several names, by device and inode.
  std::map<std::pair<uint64_t, uint64_t>, std::string> linked_;
};

// Fills everything but `path` from an lstat; no link name, no xattrs.
void FillStat(const struct stat& st, Stat* stat);

}  // namespace kiln::fsutil
