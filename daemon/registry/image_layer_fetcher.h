#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/registry/layer_progress.h"
#include "daemon/registry/origin_sessions.h"
#include "daemon/registry/registry.h"
#include "daemon/session/session.h"
#include "store/layer/layer_store.h"

namespace kiln::daemon {

// Brings lazy layers from where ImageLocation::Origin says, on behalf of the sessions that resolved
// an image there lately, else of nobody. A session that leaves in the middle is followed by the
// next one. Thread-safe.
class ImageLayerFetcher final : public store::LayerFetcher {
 public:
  // All outlive it. `progress` (may be null) shows the bytes that come.
  ImageLayerFetcher(Registry* registry, SessionFinder* sessions, OriginSessions* origins,
                    LayerProgress* progress)
      : registry_(registry), sessions_(sessions), origins_(origins), progress_(progress) {}

  absl::Status Fetch(const store::LayerBlob& blob, const CancelToken& cancel,
                     const std::function<absl::Status(absl::string_view)>& sink) override;

 private:
  absl::Status FetchFromRegistry(const store::LayerBlob& blob, const CancelToken& cancel,
                                 solver::ProgressSink* shown,
                                 const std::function<absl::Status(absl::string_view)>& sink);
  absl::Status FetchFromLayout(const std::string& store, const store::LayerBlob& blob,
                               const CancelToken& cancel,
                               const std::function<absl::Status(absl::string_view)>& sink);

  Registry* const registry_;
  SessionFinder* const sessions_;
  OriginSessions* const origins_;
  LayerProgress* const progress_;
};

}  // namespace kiln::daemon
