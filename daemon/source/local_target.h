#pragma once

#include <memory>
#include <string>

#include "store/fsutil/receive_target.h"
#include "store/parallel_files.h"
#include "store/tree_writer.h"

namespace kiln::daemon {

// Writes what a client sends into a snapshot, whose checksums are recorded on the way.
//
// Device nodes are refused: a character device 0:0 would be a whiteout in overlayfs form. Extended
// attributes that mean something to overlayfs are dropped, others that the file system does not
// take are left out. Small files are made on several threads. Not thread-safe.
class LocalTarget : public fsutil::ReceiveTarget {
 public:
  // `writer` outlives the target.
  explicit LocalTarget(store::TreeWriter& writer) : writer_(writer), files_(writer) {}

  bool AllowsDevices() const override { return false; }
  absl::Status MakeDir(const fsutil::Stat& stat) override;
  absl::Status FinishDir(const fsutil::Stat& stat) override;
  absl::Status MakeSymlink(const fsutil::Stat& stat) override;
  absl::Status MakeNode(const fsutil::Stat& stat) override;
  absl::Status MakeHardlink(const fsutil::Stat& stat) override;
  absl::Status WriteFile(const fsutil::Stat& stat, std::string data) override;
  absl::StatusOr<std::unique_ptr<fsutil::ReceiveFile>> CreateFile(
      const fsutil::Stat& stat) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status Flush() override { return files_.Drain(); }

 private:
  class File;
  store::TreeWriter& writer_;
  store::ParallelFiles files_;
};

}  // namespace kiln::daemon
