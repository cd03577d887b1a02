#include "store/base/status_macros.h"
#include "store/ref/node.h"

namespace kiln::store {

absl::StatusOr<Digest> LocalRefStore::Checksum(const RefPtr& ref, absl::string_view path,
                                               const ChecksumOptions& options,
                                               const CancelToken& cancel) {
  Layers layers;
  if (ref != nullptr) {
    KILN_ASSIGN_OR_RETURN(layers, ref->Materialize(cancel));
  }
  return checksums_.Checksum(layers, path, options, cancel);
}

absl::StatusOr<std::vector<UsageInfo>> LocalRefStore::DiskUsage(absl::Span<const std::string>) {
  return absl::UnimplementedError("disk usage");
}

absl::Status LocalRefStore::Prune(const PruneOptions&, const CancelToken&,
                                  absl::AnyInvocable<void(const UsageInfo&)>) {
  return absl::UnimplementedError("prune");
}

}  // namespace kiln::store
