#include "daemon/remotecache/cache_origins.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kiln::daemon {

void CacheOrigins::Note(const std::shared_ptr<CacheObjects>& objects) {
  MutexLock lock(&mu_);
  for (auto place = by_place_.begin(); place != by_place_.end();) {
    auto& list = place->second;
    list.erase(
        std::remove_if(list.begin(), list.end(), [](const auto& each) { return each.expired(); }),
        list.end());
    place = list.empty() ? by_place_.erase(place) : std::next(place);
  }
  by_place_[objects->place()].push_back(objects);
}

absl::Status CacheOrigins::Fetch(const store::LayerBlob& blob, const CancelToken& cancel,
                                 const std::function<absl::Status(absl::string_view)>& sink) {
  if (!absl::StrContains(blob.origin, "://")) return others_->Fetch(blob, cancel, sink);
  std::vector<std::shared_ptr<CacheObjects>> found;
  {
    MutexLock lock(&mu_);
    const auto place = by_place_.find(blob.origin);
    if (place != by_place_.end())
      for (auto each = place->second.rbegin(); each != place->second.rend(); ++each)
        if (auto objects = each->lock()) found.push_back(std::move(objects));
  }
  absl::Status last = absl::FailedPreconditionError(
      absl::StrCat("layer ", blob.descriptor.digest.ToString(),
                   " was not needed until now, and no build imports the cache any more that it is "
                   "in; import it again"));
  for (const auto& objects : found) {
    absl::Status sink_status;
    bool any = false;
    last = objects->GetBlob(blob.descriptor.digest, cancel,
                            [&](absl::string_view data) -> absl::Status {
                              if (data.empty()) return absl::OkStatus();
                              any = true;
                              sink_status = sink(data);
                              return sink_status;
                            });
    // Others have other credentials; but what came once is not to come twice.
    if (last.ok() || !sink_status.ok() || any || cancel.Cancelled()) return last;
  }
  return last;
}

}  // namespace kiln::daemon
