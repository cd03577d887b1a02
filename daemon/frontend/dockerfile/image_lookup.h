#pragma once

#include <future>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/frontend/frontend_client.h"
#include "store/base/mutex.h"

namespace kiln::daemon::dockerfile {

// Asks for every image once, however many stages and platforms name it. Thread-safe; blocks.
class ImageLookup {
 public:
  explicit ImageLookup(FrontendClient* client) : client_(client) {}

  absl::StatusOr<FrontendClient::Image> Resolve(const FrontendClient::ImageRequest& request);

  // The images of registries that were found by a name that may move.
  std::vector<std::string> names();

 private:
  using Answer = absl::StatusOr<FrontendClient::Image>;

  FrontendClient* const client_;
  Mutex mu_;
  std::map<std::string, std::shared_future<Answer>> answers_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> names_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon::dockerfile
