#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/source/http_client.h"
#include "store/base/cancel.h"

namespace kiln::daemon {

// How long a service is asked again.
struct RetryPolicy {
  int max_attempts = 3;
  bool throttling_counts = true;  // false: 429 is waited out, as long as give_up_after allows
  absl::Duration first_wait = absl::Seconds(1);
  absl::Duration longest_wait = absl::Seconds(20);
  // Of all waits together; what a server asks for (Retry-After) counts, too.
  absl::Duration give_up_after = absl::Minutes(10);
};

// Requests to object stores and their like. What may mend is tried again: connections that break,
// 408, 429 and 5xx; after what Retry-After says, else after doubling waits. Redirects are not
// followed: requests carry signatures and keys for one server. Thread-safe; blocking.
class RetryingHttp {
 public:
  // `sleep` waits between tries; null: really.
  RetryingHttp(std::string user_agent, RetryPolicy policy,
               std::function<absl::Status(absl::Duration, const CancelToken&)> sleep = {},
               absl::Duration connect_timeout = absl::Seconds(30));

  struct Answer {
    HttpResponse response;  // whatever its status
    std::string body;       // of a success
  };
  // `make` gives the request for each try anew. kResourceExhausted for a body above `limit_bytes`.
  absl::StatusOr<Answer> Do(const std::function<absl::StatusOr<HttpRequest>()>& make,
                            const CancelToken& cancel, int64_t limit_bytes = 1 << 20);

  // The whole body, in order. `make` gives the request for the bytes from an offset on: a transfer
  // that breaks is continued. The response says what came instead when its status is not 2xx.
  absl::StatusOr<HttpResponse> Download(
      const std::function<absl::StatusOr<HttpRequest>(int64_t offset)>& make,
      const CancelToken& cancel, const std::function<absl::Status(absl::string_view)>& sink);

 private:
  // One try. Counts in *taken the bytes that `sink` got so far.
  absl::StatusOr<HttpResponse> Once(HttpRequest request, const CancelToken& cancel, int64_t* taken,
                                    const std::function<absl::Status(absl::string_view)>& sink);

  const std::string user_agent_;
  const RetryPolicy policy_;
  std::function<absl::Status(absl::Duration, const CancelToken&)> sleep_;
  HttpLimits limits_;
  HttpConnections connections_;
};

// What an answer other than success means, with the service's own words; URLs without their query,
// which may be a signature. Codes as ResponseError's.
absl::Status ServiceError(const HttpRequest& request, const HttpResponse& response,
                          absl::string_view text);

}  // namespace kiln::daemon
