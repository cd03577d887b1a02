#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Which images may run as frontends: those of some repositories, whatever their tag or digest. A
// value.
class AllowedSources {
 public:
  // Any image.
  AllowedSources() = default;
  // `repositories` as people write them ("docker/dockerfile"); a tag or digest does not matter. No
  // repository: any image. kInvalidArgument names the malformed one.
  static absl::StatusOr<AllowedSources> Parse(const std::vector<std::string>& repositories);

  // kPermissionDenied "'X' is not an allowed gateway source"; kInvalidArgument when it has to be
  // looked at and is no name of an image.
  absl::Status Check(absl::string_view source) const;

 private:
  std::set<std::string> repositories_;  // in full: "docker.io/docker/dockerfile"
};

}  // namespace kiln::daemon
