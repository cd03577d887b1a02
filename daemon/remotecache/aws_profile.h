#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::daemon {

// Reads one environment variable; nullopt when it is not set.
using ReadEnv = std::function<std::optional<std::string>(const char* name)>;
// That of this process.
std::optional<std::string> ProcessEnv(const char* name);

// The settings of one profile, names in lower case.
using AwsProfile = std::map<std::string, std::string>;

// The section `header` in the text of a file of AWS's; nullopt when it has none. Settings within
// settings (indented lines) are passed over.
std::optional<AwsProfile> ReadAwsSection(absl::string_view text, absl::string_view header);

// The profile AWS_PROFILE ("default") of AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials), then of
// AWS_CONFIG_FILE (~/.aws/config), whose settings count less. Empty when nobody named a profile and
// there is none; kUnauthenticated when the one that is named is in neither file. Blocks on disk.
absl::StatusOr<AwsProfile> FindAwsProfile(const ReadEnv& env);

}  // namespace kiln::daemon
