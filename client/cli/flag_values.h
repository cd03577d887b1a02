#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::client {

struct BuildFlags;

// Looks at values that a daemon would refuse without naming the flag, late in the build, or not at
// all. kInvalidArgument names the flag, the value and what is right instead.
absl::Status CheckFlagValues(const BuildFlags& flags);
// The ones among them that docker looks at already when it only prints a plan: platforms, ulimits,
// the size of /dev/shm, types of attestations, annotations.
absl::Status CheckPlannedValues(const BuildFlags& flags);

// "[TYPE[PLATFORM][,…]:]NAME=VALUE" as attributes of an exporter, annotation-TYPE[PLATFORM].NAME,
// one for each type. kInvalidArgument names the flag.
absl::StatusOr<std::map<std::string, std::string>> ParseAnnotation(const std::string& text);

// Whether a file that is written after the build can be: `path` is none yet, or a file, in a folder
// that is there. "" is no file. Errors name the flag.
absl::Status CheckResultFile(absl::string_view flag, const std::string& path);

}  // namespace kiln::client
