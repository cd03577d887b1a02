#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "daemon/frontend/frontend_client.h"

namespace kiln::daemon {

// The image that `source` names, as far as running a frontend goes (wire.md 4.6).
struct FrontendImage {
  std::string definition;  // of its tree: a serialized pb.Definition
  std::vector<std::string> entrypoint = {"/run"};
  std::vector<std::string> env;
  std::string cwd = "/";
  bool has_config = false;  // false: a tree without one, which nothing is known of
  std::map<std::string, std::string> labels;
};

// Finds it: a context of that name if the client gives one (an input or another image), else an
// image, pinned to the digest that it has now. kInvalidArgument names a malformed option or config.
absl::StatusOr<FrontendImage> FindFrontendImage(FrontendClient& client, const std::string& source);

// Reads an image config. kInvalidArgument when it is none.
absl::Status ApplyImageConfig(const std::string& json, FrontendImage* image);

// kUnimplemented "unsupported frontend capability X", with its detail, for the first capability
// that is asked for (option `frontend.caps`; inputs, when there are any) and not in the image's
// label. Nothing is refused of an image without a config.
absl::Status CheckFrontendCaps(const FrontendClient& client, const FrontendImage& image);

}  // namespace kiln::daemon
