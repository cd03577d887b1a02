#include "store/layer/blob_fetcher.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "store/base/status_macros.h"

namespace kiln::store {
namespace {

constexpr int kMaxRestarts = 4;  // because what came was wrong

}  // namespace

absl::Status BlobFetcher::Ensure(const LayerBlob& blob, absl::Span<const std::string> origins,
                                 absl::string_view lease, const CancelToken& cancel) {
  const Digest& digest = blob.descriptor.digest;
  absl::Status held = blobs_->Hold(lease, digest);
  if (!absl::IsNotFound(held)) return held;
  KILN_ASSIGN_OR_RETURN(const NamedLocks::Hold turn, under_way_.Acquire(digest.ToString(), cancel));
  held = blobs_->Hold(lease, digest);  // somebody else may have brought it
  if (!absl::IsNotFound(held)) return held;
  absl::Status first = absl::NotFoundError(absl::StrCat(
      "layer ", digest.ToString(), " is not stored here and it is not known where to fetch it"));
  bool tried = false;
  for (const std::string& origin : origins) {
    if (origin.empty() || fetcher_ == nullptr) continue;
    LayerBlob from = blob;
    from.origin = origin;
    absl::Status fetched = FetchFrom(from, lease, cancel);
    for (int again = 0; absl::IsAborted(fetched) && again < kMaxRestarts; ++again) {
      KILN_RETURN_IF_ERROR(cancel.status());
      spdlog::warn("fetch layer {}: {}; once more", digest.ToString(), fetched.ToString());
      fetched = FetchFrom(from, lease, cancel);
    }
    if (fetched.ok()) return fetched;
    KILN_RETURN_IF_ERROR(cancel.status());
    if (absl::IsResourceExhausted(fetched)) return fetched;
    if (!tried)
      first = Annotate(fetched, absl::StrCat("layer ", digest.ToString(), " of ", origin));
    tried = true;
  }
  return first;
}

absl::Status BlobFetcher::FetchFrom(const LayerBlob& blob, absl::string_view lease,
                                    const CancelToken& cancel) {
  BlobWant want;
  want.digest = blob.descriptor.digest;
  if (blob.descriptor.size_bytes > 0) want.size_bytes = blob.descriptor.size_bytes;
  absl::StatusOr<std::unique_ptr<BlobWriter>> writer = blobs_->Ingest(want, lease);
  if (absl::IsAlreadyExists(writer.status())) return absl::OkStatus();
  KILN_RETURN_IF_ERROR(writer.status());
  KILN_RETURN_IF_ERROR(fetcher_->Fetch(blob, cancel, [&](absl::string_view bytes) {
    const absl::Status status = cancel.status();
    return status.ok() ? (*writer)->Append(bytes) : status;
  }));
  return (*writer)->Commit().status();
}

}  // namespace kiln::store
