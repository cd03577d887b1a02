#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/remotecache/aws_profile.h"
#include "daemon/remotecache/aws_signature.h"
#include "daemon/remotecache/retrying_http.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

struct TimedAwsCredentials {
  AwsCredentials credentials;
  absl::Time expires = absl::InfiniteFuture();
};

// Services that lend credentials. All block; errors say who was asked and what it said.

// A role for who has the token in a file (sts:AssumeRoleWithWebIdentity), which is read each time.
struct AwsWebIdentity {
  std::string token_file, role_arn;
  std::string session_name;  // "": one is made up
  std::string endpoint;      // of the token service, "https://sts.eu-1.amazonaws.com"
};
absl::StatusOr<TimedAwsCredentials> AssumeWebIdentity(RetryingHttp& http,
                                                      const AwsWebIdentity& identity,
                                                      const CancelToken& cancel);

// What AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or …_FULL_URI tells (ECS tasks, EKS pods); with the
// token AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, else AWS_CONTAINER_AUTHORIZATION_TOKEN. Plain http
// only to this machine and to the addresses of ECS and EKS.
absl::StatusOr<TimedAwsCredentials> ContainerCredentials(RetryingHttp& http, const ReadEnv& env,
                                                         const CancelToken& cancel);

// The role of this machine from its metadata service (version 2; version 1, which needs no token,
// is not asked), at AWS_EC2_METADATA_SERVICE_ENDPOINT, else the address of EC2 for
// AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE (IPv4, IPv6). kUnauthenticated for
// AWS_EC2_METADATA_DISABLED=true.
absl::StatusOr<TimedAwsCredentials> MachineCredentials(RetryingHttp& http, const ReadEnv& env,
                                                       const CancelToken& cancel);

}  // namespace kiln::daemon
