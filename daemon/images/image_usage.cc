#include "daemon/images/image_usage.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::StatusOr<std::vector<store::UsageInfo>> ImageUsage(const store::ImageTable& images,
                                                         store::BlobStore& blobs) {
  std::vector<store::UsageInfo> usage;
  std::set<Digest> counted;
  KILN_ASSIGN_OR_RETURN(const auto all, images.List());
  for (const store::NamedImage& image : all) {
    store::UsageInfo info;
    info.id = absl::StrCat("image:", image.name);
    info.in_use = true;  // a prune leaves it alone
    info.created_at = image.created_at;
    info.description = absl::StrCat("image ", image.name);
    info.record_type = "kiln.image";
    KILN_ASSIGN_OR_RETURN(const auto held, images.BlobsOf(image));
    for (const Digest& digest : held) {
      KILN_ASSIGN_OR_RETURN(const bool elsewhere,
                            blobs.HeldOutside(digest, store::ImageTable::kLeasePrefix));
      if (elsewhere || !counted.insert(digest).second) continue;
      const auto size = blobs.Size(digest);
      if (size.ok()) info.size_bytes += *size;
    }
    usage.push_back(std::move(info));
  }
  return usage;
}

}  // namespace kiln::daemon
