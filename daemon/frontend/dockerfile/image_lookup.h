#pragma once

#include <future>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/frontend/frontend_client.h"
#include "store/base/mutex.h"

namespace kiln::daemon::dockerfile {

// Asks for every image once, however many stages and platforms name it. Thread-safe; blocks.
class ImageLookup {
 public:
  explicit ImageLookup(FrontendClient* client) : client_(client) {}

  absl::StatusOr<FrontendClient::Image> Resolve(const FrontendClient::ImageRequest& request);

 private:
  using Answer = absl::StatusOr<FrontendClient::Image>;

  FrontendClient* const client_;
  Mutex mu_;
  std::map<std::string, std::shared_future<Answer>> answers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon::dockerfile
