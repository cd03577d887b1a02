#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/registry/authorizer.h"
#include "daemon/registry/endpoint.h"
#include "daemon/registry/host_slots.h"
#include "daemon/registry/registry.h"
#include "daemon/source/http_client.h"
#include "proto/digest.h"
#include "store/base/mutex.h"
#include "store/base/named_locks.h"

namespace kiln::daemon {

// What calls to registries share. All thread-safe.
struct RegistryShared {
  RegistryShared(SessionFinder* sessions, std::string agent, int slots_for_each_host)
      : user_agent(std::move(agent)),
        authorizer(sessions, &connections, user_agent),
        slots(slots_for_each_host) {}

  const std::string user_agent;
  HttpLimits limits;
  // Waits; replaced in tests.
  std::function<absl::Status(absl::Duration, const CancelToken&)> sleep;
  HttpConnections connections;
  Authorizer authorizer;
  HostSlots slots;
  NamedLocks referrers;  // lists of referrers that are being changed

  // Hosts that were found to speak plain http only, though https was to be tried first.
  bool IsPlain(const std::string& host);
  void SetPlain(const std::string& host);

  // Mirrors that sent wrong bytes for a blob: they are not asked for it again.
  bool IsDistrusted(const std::string& mirror, const Digest& blob);
  void Distrust(const std::string& mirror, const Digest& blob);

 private:
  Mutex mu_;
  std::set<std::pair<std::string, Digest>> distrusted_ ABSL_GUARDED_BY(mu_);  // bounded
  std::set<std::string> plain_ ABSL_GUARDED_BY(mu_);
};

struct EndpointRequest {
  std::string method = "GET";
  std::string target;  // after the repository: "/manifests/latest", or a whole URL
  std::vector<std::pair<std::string, std::string>> headers = {};
  // Makes the body anew for each try; null for none.
  std::function<absl::StatusOr<HttpBody>()> body = {};
  std::string accept_encoding = {};
  bool json = false;                                    // a small object: has a slot of its own
  absl::Duration stall_timeout = absl::ZeroDuration();  // zero: the usual one
  std::function<absl::Status(const HttpResponse&)> begin = {};
  std::function<absl::Status(absl::string_view)> sink = {};  // of a body with status 2xx
};

// Requests of one call to one server: credentials, second tries, plain http where https fails. Not
// thread-safe; blocking.
class EndpointClient {
 public:
  // All outlive it. `is_last`: there is no other server to turn to, so it is worth insisting.
  EndpointClient(RegistryShared* shared, Endpoint endpoint, std::vector<std::string> scopes,
                 const RegistryCall& call, bool is_last);

  const Endpoint& endpoint() const { return endpoint_; }
  bool is_last() const { return is_last_; }

  // The answer, whatever its status. Nothing is tried again once `begin` was called. An error is
  // what kept an answer from coming, or from `begin` and `sink`.
  absl::StatusOr<HttpResponse> Do(const EndpointRequest& request);

  // The URL a request goes to.
  std::string UrlOf(const EndpointRequest& request) const;

 private:
  absl::StatusOr<HttpResponse> Once(const EndpointRequest& request, bool* begun);

  RegistryShared* const shared_;
  Endpoint endpoint_;
  const RegistryCall& call_;
  const bool is_last_;
  Authorization authorization_;
};

// How long an answer asks to wait (Retry-After), at most a minute; zero when it does not.
absl::Duration RetryAfter(const HttpResponse& response, absl::Time now);

}  // namespace kiln::daemon
