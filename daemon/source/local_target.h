#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "store/fsutil/receive_target.h"
#include "store/parallel_files.h"
#include "store/tree.h"
#include "store/tree_writer.h"

namespace kiln::daemon {

// Writes what a client sends into a snapshot, whose checksums are recorded on the way.
//
// Device nodes are refused: a character device 0:0 would be a whiteout in overlayfs form. Extended
// attributes that mean something to overlayfs are dropped, others that the file system does not
// take are left out. Small files are made on several threads. Not thread-safe.
class LocalTarget : public fsutil::ReceiveTarget {
 public:
  // `open` is called before the first change, if there is any; `existing` is the directory with
  // what is there until then. What `open` gives outlives the target.
  using Open = absl::AnyInvocable<absl::StatusOr<store::TreeWriter*>()>;
  LocalTarget(Open open, std::string existing)
      : open_(std::move(open)), existing_({std::move(existing)}) {}

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
  absl::Status Flush() override;

 private:
  class File;
  absl::StatusOr<store::TreeWriter*> Writer();
  // Whether nothing has changed so far and the entry is there as it is to be.
  bool IsThere(const fsutil::Stat& stat, const std::string* data) const;

  Open open_;
  const store::TreeReader existing_;
  store::TreeWriter* writer_ = nullptr;        // null: nothing has changed so far
  std::optional<store::ParallelFiles> files_;  // with the first small file
};

}  // namespace kiln::daemon
