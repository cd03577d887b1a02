#include "daemon/registry/image_layer_fetcher.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "daemon/session/session_blob.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::Status ImageLayerFetcher::FetchFromLayout(
    const std::string& store, const store::LayerBlob& blob, const CancelToken& cancel,
    const std::function<absl::Status(absl::string_view)>& sink) {
  const Digest& digest = blob.descriptor.digest;
  absl::Status last =
      absl::UnavailableError(absl::StrCat("layer ", digest.ToString(), " is in the OCI layout \"",
                                          store, "\" of a client that is not attached any more"));
  absl::Status sink_status;
  int64_t offset = 0;
  for (const std::string& id : origins_->Find(blob.origin)) {
    absl::StatusOr<SessionPtr> session = sessions_->Get(id, cancel);
    if (!session.ok()) continue;
    last = ReadSessionBlob(**session, absl::StrCat("oci:", store), digest, offset, cancel,
                           [&](absl::string_view data) {
                             sink_status = sink(data);
                             offset += static_cast<int64_t>(data.size());
                             return sink_status;
                           });
    if (last.ok() || !sink_status.ok() || cancel.Cancelled()) return last;
  }
  return last;
}

absl::Status ImageLayerFetcher::FetchFromRegistry(
    const store::LayerBlob& blob, const CancelToken& cancel, solver::ProgressSink* shown,
    const std::function<absl::Status(absl::string_view)>& sink) {
  absl::StatusOr<Reference> repository = Reference::ParseFamiliar(blob.origin);
  KILN_RETURN_IF_ERROR(Annotate(
      repository.status(), absl::StrCat("origin of layer ", blob.descriptor.digest.ToString())));
  RegistryCall call;
  call.session_ids = origins_->Find(blob.origin);
  call.cancel = cancel;
  if (shown != nullptr)
    call.log = [shown](absl::string_view line) {
      shown->Log({2, absl::StrCat(line, "\n"), absl::Now()});
    };
  return registry_->FetchBlob(*repository, blob.descriptor, /*offset=*/0, call, sink);
}

absl::Status ImageLayerFetcher::Fetch(const store::LayerBlob& blob, const CancelToken& cancel,
                                      const std::function<absl::Status(absl::string_view)>& sink) {
  const std::shared_ptr<solver::ProgressSink> shown =
      progress_ == nullptr ? nullptr : progress_->Of(blob.descriptor.digest, {blob.origin});
  std::optional<TransferProgress> line;
  if (shown != nullptr) line.emplace(*shown, blob.descriptor.digest.ToString(), "");
  int64_t have = 0;
  const auto counted = [&](absl::string_view data) -> absl::Status {
    KILN_RETURN_IF_ERROR(sink(data));
    have += static_cast<int64_t>(data.size());
    if (line.has_value()) line->Update(have, std::max<int64_t>(0, blob.descriptor.size_bytes));
    return absl::OkStatus();
  };
  absl::string_view store = blob.origin;
  if (absl::ConsumePrefix(&store, "oci-layout:"))
    return FetchFromLayout(std::string(store), blob, cancel, counted);
  return FetchFromRegistry(blob, cancel, shown.get(), counted);
}

}  // namespace kiln::daemon
