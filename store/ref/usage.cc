#include "store/base/status_macros.h"
#include "store/ref/node.h"

namespace kiln::store {

absl::StatusOr<Digest> LocalRefStore::Checksum(const RefPtr&, absl::string_view,
                                               const ChecksumOptions&, const CancelToken&) {
  return absl::UnimplementedError("checksums of refs");
}

absl::StatusOr<std::vector<UsageInfo>> LocalRefStore::DiskUsage(absl::Span<const std::string>) {
  return absl::UnimplementedError("disk usage");
}

absl::Status LocalRefStore::Prune(const PruneOptions&, const CancelToken&,
                                  absl::AnyInvocable<void(const UsageInfo&)>) {
  return absl::UnimplementedError("prune");
}

}  // namespace kiln::store
