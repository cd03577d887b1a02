#pragma once

#include <string>
#include <utility>

#include "store/snapshot/driver.h"

namespace kiln::store {

// Snapshots as layers of overlayfs: creating one costs two mkdirs, whatever the size of its parent.
class OverlayDriver final : public SnapshotDriver {
 public:
  explicit OverlayDriver(std::string root);

  absl::string_view name() const override { return "overlay"; }
  bool stacks() const override { return true; }
  size_t max_layers() const override { return max_layers_; }

  absl::Status Create(uint64_t number, const Layers& parent) override;
  absl::StatusOr<TreeMount> MountWritable(const Layers& lower, uint64_t number,
                                          const std::string& target) override;
  absl::StatusOr<TreeMount> MountReadOnly(const Layers& layers, const std::string& target) override;

 private:
  const size_t max_layers_;
};

}  // namespace kiln::store
