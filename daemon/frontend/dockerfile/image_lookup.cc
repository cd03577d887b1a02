#include "daemon/frontend/dockerfile/image_lookup.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

absl::StatusOr<FrontendClient::Image> ImageLookup::Resolve(
    const FrontendClient::ImageRequest& request) {
  const std::string key =
      absl::StrCat(request.reference, "\n", request.platform, "\n", request.resolve_mode, "\n",
                   request.oci_layout, "\n", request.store_id, "\n", request.store_session_id);
  std::promise<Answer> promise;
  std::shared_future<Answer> answer;
  bool ask = false;
  {
    MutexLock lock(&mu_);
    std::shared_future<Answer>& known = answers_[key];
    ask = !known.valid();
    if (ask) known = promise.get_future().share();
    answer = known;
  }
  if (ask) {
    Answer image = client_->ResolveImage(request);
    if (!image.ok())
      image = Annotate(image.status(),
                       absl::StrCat("failed to resolve source metadata for ", request.reference));
    promise.set_value(std::move(image));
  }
  if (answer.get().ok() && !request.oci_layout && !absl::StrContains(request.reference, '@')) {
    MutexLock lock(&mu_);
    names_.insert(request.reference);
  }
  return answer.get();
}

std::vector<std::string> ImageLookup::names() {
  MutexLock lock(&mu_);
  return {names_.begin(), names_.end()};
}

}  // namespace kiln::daemon::dockerfile
