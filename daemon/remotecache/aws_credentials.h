#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/remotecache/aws_signature.h"

namespace kiln::daemon {

// Reads one environment variable; nullopt when it is not set.
using ReadEnv = std::function<std::optional<std::string>(const char* name)>;
// That of this process.
std::optional<std::string> ProcessEnv(const char* name);

// The daemon's own credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN,
// else the profile AWS_PROFILE ("default") of AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials).
// Roles of machines and containers are not asked for. kUnauthenticated says where they were looked
// for.
absl::StatusOr<AwsCredentials> FindAwsCredentials(const ReadEnv& env);

// The keys of one profile in the text of a credentials file; nullopt when it has none.
std::optional<AwsCredentials> ReadAwsProfile(absl::string_view text, absl::string_view profile);

}  // namespace kiln::daemon
