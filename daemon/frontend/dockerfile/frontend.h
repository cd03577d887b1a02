#pragma once

#include "absl/status/statusor.h"
#include "daemon/frontend/dockerfile/image_foresight.h"
#include "daemon/frontend/frontend_client.h"

namespace kiln::daemon {

// "dockerfile.v0": builds what a Dockerfile says (dockerfile.md).
class DockerfileFrontend : public Frontend {
 public:
  absl::StatusOr<BridgeResult> Run(FrontendClient& client) override;

 private:
  dockerfile::ImageForesight foresight_;
};

}  // namespace kiln::daemon
