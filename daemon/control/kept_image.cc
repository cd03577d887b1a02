#include "daemon/control/kept_image.h"

#include <set>
#include <vector>

#include "daemon/exporter/blob_lease.h"
#include "daemon/image/manifest.h"
#include "daemon/image/media_types.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::Status HoldImageDocuments(store::BlobStore& blobs, absl::string_view lease,
                                const store::Descriptor& root) {
  std::set<Digest> seen;
  std::vector<store::Descriptor> to_visit = {root};
  while (!to_visit.empty()) {
    const store::Descriptor document = to_visit.back();
    to_visit.pop_back();
    if (!seen.insert(document.digest).second) continue;
    const absl::Status held = blobs.Hold(lease, document.digest);
    if (absl::IsNotFound(held)) continue;
    KILN_RETURN_IF_ERROR(held);
    if (!IsIndex(document.media_type) && !IsManifest(document.media_type)) continue;
    KILN_ASSIGN_OR_RETURN(const std::string bytes, ReadSmallBlob(blobs, document.digest));
    KILN_ASSIGN_OR_RETURN(const std::vector<ManifestEntry> references, References(bytes));
    for (size_t i = 0; i < references.size(); ++i) {
      const store::Descriptor& part = references[i].descriptor;
      const bool is_layer = IsManifest(document.media_type) && i > 0;  // the config comes first
      if (!is_layer || part.media_type == kInToto) to_visit.push_back(part);
    }
  }
  return absl::OkStatus();
}

}  // namespace kiln::daemon
