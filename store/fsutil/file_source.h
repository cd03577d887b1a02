#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/base/fd.h"
#include "store/fsutil/packet.h"

namespace kiln::fsutil {

// What a sender sends: a listing in protocol order, and the bytes of its regular files.
class FileSource {
 public:
  virtual ~FileSource() = default;

  // Visits every entry: depth first, siblings in byte order, a directory before its content, a hard
  // link after the name it points to. `visit` may change the Stat. Its error ends the walk and is
  // returned. Called once.
  virtual absl::Status Walk(const std::function<absl::Status(Stat* stat)>& visit) = 0;

  // Opens a regular file by the path that Walk gave. Called from another thread than Walk, also
  // while it runs. kNotFound when the file vanished.
  virtual absl::StatusOr<Fd> Open(const std::string& path) = 0;
};

// Several sources as the top directories of one. Link names follow: a hard link's target gets the
// directory's name in front, and so does an absolute symlink, which keeps pointing into its tree.
class SubdirectorySource : public FileSource {
 public:
  struct Directory {
    Stat stat;  // path: one component; must be a directory
    std::unique_ptr<FileSource> source;
  };
  // kInvalidArgument for a name that is not one component, or that occurs twice.
  static absl::StatusOr<std::unique_ptr<SubdirectorySource>> Create(
      std::vector<Directory> directories);

  absl::Status Walk(const std::function<absl::Status(Stat* stat)>& visit) override;
  absl::StatusOr<Fd> Open(const std::string& path) override;

 private:
  explicit SubdirectorySource(std::vector<Directory> directories)
      : directories_(std::move(directories)) {}
  std::vector<Directory> directories_;  // sorted by name
};

}  // namespace kiln::fsutil
