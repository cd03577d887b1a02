#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::client {

struct RegistryCredentials {
  std::string username;  // "" with a secret: the secret is an identity token
  std::string secret;    // "": anonymous
};

// What `docker login` stored for a registry host, from config.json in `config_dir` ("":
// $DOCKER_CONFIG or ~/.docker): a credential helper of the host, the default helper, or the file
// itself. Anonymous when nothing is stored. Runs the helper; may block on it.
absl::StatusOr<RegistryCredentials> LookUpCredentials(const std::string& config_dir,
                                                      absl::string_view host);

}  // namespace kiln::client
