#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/base/fd.h"

namespace kiln::store {

// Root is the one folder in which a daemon keeps everything, and the lock that makes it the only
// user of that folder:
//
//   kilnd.lock   held with flock(2) while this object lives; its text is the owner's process id
//   blobs/       content-addressed bytes              snapshots/   file trees
//   index/       RocksDB                              logs/        logs of build steps
//   tmp/<start>  scratch of one run of the daemon; those of earlier runs are swept
//
// Lifetime: outlives everything that works inside the folder. Thread-safe.
class Root {
 public:
  // Creates what is missing and takes the lock. kFailedPrecondition names the process that holds
  // the lock. `boot_id` is for tests; empty reads the kernel's.
  static absl::StatusOr<std::unique_ptr<Root>> Open(const std::string& path,
                                                    absl::string_view boot_id = "");
  ~Root() = default;
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;

  // Absolute paths, without a slash at the end.
  const std::string& path() const { return path_; }
  std::string blobs_dir() const { return path_ + "/blobs"; }
  std::string snapshots_dir() const { return path_ + "/snapshots"; }
  std::string index_dir() const { return path_ + "/index"; }
  std::string logs_dir() const { return path_ + "/logs"; }
  // This run's own folder below tmp/; on the same file system as the rest, so renames work.
  const std::string& tmp_dir() const { return tmp_dir_; }

  // The kernel's boot id: equal in two runs of the daemon when the machine did not restart between
  // them, and the page cache therefore lost nothing. Never empty.
  const std::string& boot_id() const { return boot_id_; }

  // Makes every file below the folder survive a power loss: syncfs(2) on each file system that the
  // sub-folders lie on. Blocks.
  absl::Status SyncFiles() const;

  // Removes what earlier runs left in tmp/. Blocks for as long as that takes; not needed for
  // correctness, so call it off the path of the start.
  absl::Status SweepTmp() const;

 private:
  Root() = default;

  std::string path_;
  std::string tmp_dir_;
  std::string boot_id_;
  Fd lock_;
};

}  // namespace kiln::store
