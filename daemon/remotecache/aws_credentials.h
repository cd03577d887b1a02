#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/remotecache/aws_profile.h"
#include "daemon/remotecache/aws_roles.h"
#include "daemon/remotecache/aws_signature.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// Credentials for requests, renewed in time where they are lent ones. Thread-safe. Get blocks when
// it has to ask; several callers ask once.
class AwsCredentialSource {
 public:
  using Fetch = std::function<absl::StatusOr<TimedAwsCredentials>(const CancelToken&)>;
  // `now` null: the clock.
  explicit AwsCredentialSource(Fetch fetch, std::function<absl::Time()> now = nullptr);
  // Permanent ones.
  explicit AwsCredentialSource(AwsCredentials credentials);

  absl::StatusOr<AwsCredentials> Get(const CancelToken& cancel);

 private:
  const Fetch fetch_;
  const std::function<absl::Time()> now_;
  Mutex mu_;
  CondVar changed_;
  bool fetching_ ABSL_GUARDED_BY(mu_) = false;
  TimedAwsCredentials held_ ABSL_GUARDED_BY(mu_);
  absl::Status failed_ ABSL_GUARDED_BY(mu_);  // the last answer, for a few seconds
  absl::Time failed_at_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
};

// The daemon's own credentials, from the first that is there (the order of AWS's SDKs):
//   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN;
//   AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME;
//   the profile (aws_profile.h): aws_access_key_id …, or role_arn with web_identity_token_file;
//   the container's role; the machine's role (aws_roles.h).
// Variables and files are read now, services asked when credentials are needed. kUnimplemented
// names a way of a profile that is not offered (SSO, a process, a role by way of another profile).
absl::StatusOr<std::unique_ptr<AwsCredentialSource>> FindAwsCredentials(
    const ReadEnv& env, const std::string& region, const std::string& user_agent);

}  // namespace kiln::daemon
