#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/fsutil/packet.h"

namespace kiln::fsutil {

// A file whose content is arriving. Dropping it before Close leaves nothing behind.
class ReceiveFile {
 public:
  virtual ~ReceiveFile() = default;
  virtual absl::Status Append(absl::string_view data) = 0;
  // Puts the file in its place.
  virtual absl::Status Close() = 0;
};

// Where a receiver puts what arrives. Paths are checked before (clean, relative, parents are
// directories of the listing); every call comes from the one thread that runs Receive.
//
// Make and write calls replace whatever has the name, except that MakeDir keeps a directory.
// Metadata is that of `stat`, for files and links at once, for directories in FinishDir.
class ReceiveTarget {
 public:
  virtual ~ReceiveTarget() = default;

  // Device nodes are refused unless true.
  virtual bool AllowsDevices() const = 0;

  // The directory must be writable afterwards, whatever its final mode.
  virtual absl::Status MakeDir(const Stat& stat) = 0;
  // Sets owner, mode, xattrs and time, after all of its content; children before parents.
  virtual absl::Status FinishDir(const Stat& stat) = 0;
  virtual absl::Status MakeSymlink(const Stat& stat) = 0;
  // Devices, pipes. `stat.linkname` is empty.
  virtual absl::Status MakeNode(const Stat& stat) = 0;
  // `stat.linkname` names a file that is complete.
  virtual absl::Status MakeHardlink(const Stat& stat) = 0;

  // A small file, whole. It need not be there before Flush has returned.
  virtual absl::Status WriteFile(const Stat& stat, std::string data) = 0;
  // A larger one, in pieces. Several may be open at once.
  virtual absl::StatusOr<std::unique_ptr<ReceiveFile>> CreateFile(const Stat& stat) = 0;

  // Recursively. OK when it is not there.
  virtual absl::Status Remove(const std::string& path) = 0;

  // Puts every written file in its place, or tells why one is not. Comes before the hard links and
  // the ends of directories, and at the end.
  virtual absl::Status Flush() { return absl::OkStatus(); }
};

}  // namespace kiln::fsutil
