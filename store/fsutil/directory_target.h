#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/fd.h"
#include "store/fsutil/receive_target.h"

namespace kiln::fsutil {

// Writes what arrives into a directory on disk, never through a symlink below it: files appear
// under a temporary name and are renamed into their place.
//
// Owners are set only where they differ from what the file system gave. Failing to set an xattr is
// not an error (a user may not set trusted.*), anything else is. Not thread-safe.
class DirectoryTarget : public ReceiveTarget {
 public:
  // `root` must be an existing directory; a symlink as the root is followed.
  static absl::StatusOr<std::unique_ptr<DirectoryTarget>> Open(const std::string& root,
                                                               bool allow_devices);

  bool AllowsDevices() const override { return allow_devices_; }
  absl::Status MakeDir(const Stat& stat) override;
  absl::Status FinishDir(const Stat& stat) override;
  absl::Status MakeSymlink(const Stat& stat) override;
  absl::Status MakeNode(const Stat& stat) override;
  absl::Status MakeHardlink(const Stat& stat) override;
  absl::Status WriteFile(const Stat& stat, std::string data) override;
  absl::StatusOr<std::unique_ptr<ReceiveFile>> CreateFile(const Stat& stat) override;
  absl::Status Remove(const std::string& path) override;

 private:
  class File;
  // A directory of the tree, opened without following links, and a name in it.
  struct Place {
    std::shared_ptr<Fd> dir;
    std::string name;
  };

  DirectoryTarget(Fd root, bool allow_devices)
      : root_(std::make_shared<Fd>(std::move(root))), allow_devices_(allow_devices) {}
  absl::StatusOr<Place> Find(const std::string& path);
  std::string TemporaryName();
  // Renames a finished temporary entry over whatever has the name.
  absl::Status Install(const Place& place, const std::string& temporary, const std::string& path);

  const std::shared_ptr<Fd> root_;
  const bool allow_devices_;
  const std::string temporary_prefix_ = NewTemporaryPrefix();
  uint64_t counter_ = 0;
  // The directory used last: entries come by directory.
  std::string cached_path_;
  std::shared_ptr<Fd> cached_dir_;

  static std::string NewTemporaryPrefix();
};

// Removes `name` in `dir_fd` and all below it, without following links and without recursion. OK
// when it is not there.
absl::Status RemoveTree(int dir_fd, const std::string& name);

}  // namespace kiln::fsutil
