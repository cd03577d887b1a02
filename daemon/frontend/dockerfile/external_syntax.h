#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/frontend/frontend_client.h"

namespace kiln::daemon::dockerfile {

// Whether `# syntax=image` asks for what is built in: docker/dockerfile of a version that this
// frontend covers, or its upstream channel, not pinned to a digest (dockerfile.md 4.9).
bool IsBuiltIn(absl::string_view image);

// The answer of another frontend, if the build asks for one by build arg or directive; nullopt when
// this frontend is to go on. Errors that say where carry the Dockerfile's text.
absl::StatusOr<std::optional<BridgeResult>> ForwardToSyntax(FrontendClient& client,
                                                            absl::string_view filename,
                                                            absl::string_view data);

}  // namespace kiln::daemon::dockerfile
