#pragma once

#include <string>
#include <utility>

#include "store/snapshot/driver.h"

namespace kiln::store {

// Snapshots as whole copies, for places without overlayfs or privileges. A new snapshot is a real
// copy (a reflink where the file system has it): its files may be written in place, so hardlinks
// to the parent are out of the question.
class NativeDriver final : public SnapshotDriver {
 public:
  explicit NativeDriver(std::string root) : SnapshotDriver(std::move(root)) {}

  absl::string_view name() const override { return "native"; }
  bool stacks() const override { return false; }
  size_t max_layers() const override { return 1; }

  absl::Status Create(uint64_t number, const Layers& parent) override;
  absl::StatusOr<TreeMount> MountWritable(const Layers& lower, uint64_t number,
                                          const std::string& target) override;
  // A read-only bind mount; without the right to mount, the directory itself.
  absl::StatusOr<TreeMount> MountReadOnly(const Layers& layers, const std::string& target) override;
};

}  // namespace kiln::store
