#include "store/snapshot/native.h"

#include "store/base/status_macros.h"
#include "store/snapshot/apply.h"
#include "store/snapshot/changes.h"

namespace kiln::store {

absl::Status NativeDriver::Create(uint64_t number, const Layers& parent) {
  KILN_RETURN_IF_ERROR(CreateFolder(number, parent));
  if (parent.empty()) return absl::OkStatus();
  absl::Status status = [&]() -> absl::Status {
    TreeApplier applier(FilesDir(number), {.hardlink = false});
    KILN_RETURN_IF_ERROR(
        LayerChanges(parent.back(), [&](const Change& change) { return applier.Apply(change); }));
    return applier.Finish();
  }();
  if (!status.ok()) Remove(number).IgnoreError();  // the first error is what matters
  return status;
}

absl::StatusOr<TreeMount> NativeDriver::MountWritable(const Layers&, uint64_t number,
                                                      const std::string&) {
  return TreeMount{FilesDir(number), Mount()};
}

absl::StatusOr<TreeMount> NativeDriver::MountReadOnly(const Layers& layers,
                                                      const std::string& target) {
  const std::string& source = layers.empty() ? target : layers.back();
  absl::StatusOr<Mount> mount = Mount::Bind(source, target, {.read_only = true});
  if (mount.ok()) return TreeMount{target, *std::move(mount)};
  if (absl::IsPermissionDenied(mount.status())) return TreeMount{source, Mount()};
  return mount.status();
}

}  // namespace kiln::store
