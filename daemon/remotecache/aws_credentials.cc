#include "daemon/remotecache/aws_credentials.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr absl::Duration kRenewBefore = absl::Minutes(5);
constexpr absl::Duration kKeepFailure = absl::Seconds(5);

std::string Env(const ReadEnv& env, const char* name) { return env(name).value_or(""); }

std::string TokenService(const ReadEnv& env, const std::string& region) {
  for (const char* name : {"AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"})
    if (std::string endpoint = Env(env, name); !endpoint.empty()) return endpoint;
  return absl::StrCat("https://sts.", region, ".amazonaws.com",
                      absl::StartsWith(region, "cn-") ? ".cn" : "");
}

// Told off a cloud, too, where the last service to be asked is not there: says what else there is.
absl::Status NoCredentials(const absl::Status& why) {
  if (absl::IsCancelled(why)) return why;
  return absl::UnauthenticatedError(absl::StrCat(
      "no AWS credentials: set access_key_id and secret_access_key, or give the daemon "
      "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role (the machine's metadata "
      "service was asked last: ",
      why.message(), ")"));
}

}  // namespace

AwsCredentialSource::AwsCredentialSource(Fetch fetch, std::function<absl::Time()> now)
    : fetch_(std::move(fetch)), now_(now ? std::move(now) : [] { return absl::Now(); }) {
  held_.expires = absl::InfinitePast();
}

AwsCredentialSource::AwsCredentialSource(AwsCredentials credentials)
    : AwsCredentialSource(nullptr, nullptr) {
  held_ = {std::move(credentials)};
}

absl::StatusOr<AwsCredentials> AwsCredentialSource::Get(const CancelToken& cancel) {
  {
    MutexLock lock(&mu_);
    while (true) {
      const absl::Time now = now_();
      if (now < held_.expires - kRenewBefore) return held_.credentials;
      if (now < failed_at_ + kKeepFailure) {
        if (now < held_.expires) return held_.credentials;
        return failed_;
      }
      if (!fetching_) break;
      changed_.Wait(&mu_);
    }
    fetching_ = true;
  }
  absl::StatusOr<TimedAwsCredentials> found = fetch_(cancel);
  MutexLock lock(&mu_);
  fetching_ = false;
  changed_.SignalAll();
  if (found.ok()) {
    held_ = *std::move(found);
    // Also when it is nearly over: there is nothing better.
    return held_.credentials;
  }
  if (cancel.Cancelled()) return cancel.status();
  failed_ = found.status();
  failed_at_ = now_();
  if (failed_at_ < held_.expires) return held_.credentials;
  return failed_;
}

absl::StatusOr<std::unique_ptr<AwsCredentialSource>> FindAwsCredentials(
    const ReadEnv& env, const std::string& region, const std::string& user_agent) {
  const auto fixed = [](AwsCredentials credentials) {
    return std::make_unique<AwsCredentialSource>(std::move(credentials));
  };
  // These services are near, or not there at all.
  RetryPolicy policy;
  policy.max_attempts = 2;
  policy.first_wait = absl::Milliseconds(100);
  const auto near = std::make_shared<RetryingHttp>(user_agent, policy, nullptr, absl::Seconds(1));
  const auto web_identity = [&](std::string file, std::string role, std::string session) {
    const auto far = std::make_shared<RetryingHttp>(user_agent, RetryPolicy());
    return std::make_unique<AwsCredentialSource>(
        [far, identity = AwsWebIdentity{std::move(file), std::move(role), std::move(session),
                                        TokenService(env, region)}](const CancelToken& cancel) {
          return AssumeWebIdentity(*far, identity, cancel);
        });
  };

  const std::string id = Env(env, "AWS_ACCESS_KEY_ID"), secret = Env(env, "AWS_SECRET_ACCESS_KEY");
  if (!id.empty() && !secret.empty()) return fixed({id, secret, Env(env, "AWS_SESSION_TOKEN")});

  if (std::string file = Env(env, "AWS_WEB_IDENTITY_TOKEN_FILE"); !file.empty()) {
    const std::string role = Env(env, "AWS_ROLE_ARN");
    if (role.empty())
      return absl::UnauthenticatedError(
          "no AWS credentials: AWS_WEB_IDENTITY_TOKEN_FILE is set, but not AWS_ROLE_ARN");
    return web_identity(std::move(file), role, Env(env, "AWS_ROLE_SESSION_NAME"));
  }

  KILN_ASSIGN_OR_RETURN(AwsProfile profile, FindAwsProfile(env));
  for (const char* setting : {"sso_session", "sso_start_url", "credential_process",
                              "credential_source", "source_profile"})
    if (profile.count(setting) != 0)
      return absl::UnimplementedError(
          absl::StrCat("the AWS profile has ", setting, ", which is not supported by this daemon"));
  if (profile.count("role_arn") != 0 && profile.count("web_identity_token_file") != 0)
    return web_identity(profile["web_identity_token_file"], profile["role_arn"],
                        profile["role_session_name"]);
  if (!profile["aws_access_key_id"].empty() && !profile["aws_secret_access_key"].empty())
    return fixed({profile["aws_access_key_id"], profile["aws_secret_access_key"],
                  profile["aws_session_token"]});

  if (!Env(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").empty() ||
      !Env(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI").empty())
    return std::make_unique<AwsCredentialSource>([near, env](const CancelToken& cancel) {
      return ContainerCredentials(*near, env, cancel);
    });
  return std::make_unique<AwsCredentialSource>(
      [near, env](const CancelToken& cancel) -> absl::StatusOr<TimedAwsCredentials> {
        absl::StatusOr<TimedAwsCredentials> found = MachineCredentials(*near, env, cancel);
        if (!found.ok()) return NoCredentials(found.status());
        return found;
      });
}

}  // namespace kiln::daemon
