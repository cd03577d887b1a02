#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace kiln::daemon {

struct AwsCredentials {
  std::string access_key_id, secret_access_key;
  std::string session_token;  // "": the keys are permanent ones
};

// What of a request is signed.
struct AwsSignedRequest {
  std::string method;
  std::string path;                                          // as it is sent: encoded
  std::vector<std::pair<std::string, std::string>> query;    // not encoded
  std::vector<std::pair<std::string, std::string>> headers;  // with host and x-amz-date
  std::string payload_sha256;                                // hex, or "UNSIGNED-PAYLOAD"
};

// The value of the Authorization header (AWS Signature Version 4): every header given is signed.
// `now` must be that of x-amz-date.
std::string AwsAuthorization(const AwsCredentials& credentials, absl::string_view region,
                             absl::string_view service, absl::Time now,
                             const AwsSignedRequest& request);

// "20130524T000000Z", as x-amz-date has it.
std::string AwsTime(absl::Time time);

// Percent-encodes all but letters, digits and "-._~", and "/" where `keep_slash`.
std::string AwsEncode(absl::string_view text, bool keep_slash);
// "a=b&c=" encoded and in the order of the signature.
std::string AwsQuery(const std::vector<std::pair<std::string, std::string>>& query);

}  // namespace kiln::daemon
