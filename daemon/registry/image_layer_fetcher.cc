#include "daemon/registry/image_layer_fetcher.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/session/session_blob.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::Status ImageLayerFetcher::FetchFromLayout(
    const std::string& store, const store::LayerBlob& blob, int64_t offset,
    const CancelToken& cancel, const std::function<absl::Status(absl::string_view)>& sink) {
  const Digest& digest = blob.descriptor.digest;
  absl::Status last =
      absl::UnavailableError(absl::StrCat("layer ", digest.ToString(), " is in the OCI layout \"",
                                          store, "\" of a client that is not attached any more"));
  absl::Status sink_status;
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

absl::Status ImageLayerFetcher::Fetch(const store::LayerBlob& blob, int64_t offset,
                                      const CancelToken& cancel,
                                      const std::function<absl::Status(absl::string_view)>& sink) {
  absl::string_view store = blob.origin;
  if (absl::ConsumePrefix(&store, "oci-layout:"))
    return FetchFromLayout(std::string(store), blob, offset, cancel, sink);
  absl::StatusOr<Reference> repository = Reference::ParseFamiliar(blob.origin);
  KILN_RETURN_IF_ERROR(Annotate(
      repository.status(), absl::StrCat("origin of layer ", blob.descriptor.digest.ToString())));
  RegistryCall call;
  call.session_ids = origins_->Find(blob.origin);
  call.cancel = cancel;
  return registry_->FetchBlob(*repository, blob.descriptor, offset, call, sink);
}

}  // namespace kiln::daemon
