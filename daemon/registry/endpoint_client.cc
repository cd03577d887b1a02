#include "daemon/registry/endpoint_client.h"

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/source/http_names.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int kMaxTries = 5;
constexpr absl::Duration kMaxRetryAfter = absl::Minutes(1);
constexpr absl::Duration kThrottledWait = absl::Seconds(1);
constexpr size_t kMaxDistrusted = 1000;
constexpr absl::Duration kTransferWait = absl::Milliseconds(50);

bool IsThrottled(int status) { return status == 408 || status == 429; }
bool IsServerTrouble(int status) { return status == 500 || status == 503 || status == 504; }

bool SameServer(absl::string_view url, absl::string_view base) {
  const size_t end = base.find("/v2/");
  return end != absl::string_view::npos && absl::StartsWith(url, base.substr(0, end + 1));
}

}  // namespace

bool RegistryShared::IsPlain(const std::string& host) {
  MutexLock lock(&mu_);
  return plain_.count(host) != 0;
}

void RegistryShared::SetPlain(const std::string& host) {
  MutexLock lock(&mu_);
  plain_.insert(host);
}

bool RegistryShared::IsDistrusted(const std::string& mirror, const Digest& blob) {
  MutexLock lock(&mu_);
  return distrusted_.count({mirror, blob}) != 0;
}

void RegistryShared::Distrust(const std::string& mirror, const Digest& blob) {
  MutexLock lock(&mu_);
  if (distrusted_.size() >= kMaxDistrusted) distrusted_.clear();
  distrusted_.emplace(mirror, blob);
}

absl::Duration RetryAfter(const HttpResponse& response, absl::Time now) {
  const std::string& text = response.Header("retry-after");
  absl::Duration wait;
  int64_t seconds = 0;
  if (absl::SimpleAtoi(text, &seconds)) {
    wait = absl::Seconds(seconds);
  } else if (std::optional<absl::Time> date = ParseHttpDate(text); date.has_value()) {
    wait = *date - now;
  }
  return std::clamp(wait, absl::ZeroDuration(), kMaxRetryAfter);
}

EndpointClient::EndpointClient(RegistryShared* shared, Endpoint endpoint,
                               std::vector<std::string> scopes, const RegistryCall& call,
                               bool is_last)
    : shared_(shared),
      endpoint_(endpoint.may_fall_back && shared->IsPlain(endpoint.host)
                    ? WithPlainHttp(std::move(endpoint))
                    : std::move(endpoint)),
      call_(call),
      is_last_(is_last),
      authorization_(&shared->authorizer, endpoint_, std::move(scopes), call.session_ids,
                     call.cancel, call.log) {}

std::string EndpointClient::UrlOf(const EndpointRequest& request) const {
  if (!absl::StartsWith(request.target, "/")) return request.target;
  std::string url = absl::StrCat(endpoint_.url, request.target);
  if (!endpoint_.namespace_query.empty())
    absl::StrAppend(&url, absl::StrContains(url, "?") ? "&" : "?", endpoint_.namespace_query);
  return url;
}

absl::StatusOr<HttpResponse> EndpointClient::Once(const EndpointRequest& request, bool* begun) {
  HttpRequest http;
  http.method = request.method;
  http.url = UrlOf(request);
  http.headers = request.headers;
  http.headers.emplace_back("User-Agent", shared_->user_agent);
  http.accept_encoding = request.accept_encoding;
  http.only_public_addresses = endpoint_.only_public_addresses;
  // Where a registry sends us for an upload may be another's server: no credentials for that.
  if (SameServer(http.url, endpoint_.url)) {
    KILN_ASSIGN_OR_RETURN(const std::string authorization, authorization_.Header());
    if (!authorization.empty()) http.headers.emplace_back("Authorization", authorization);
    http.tls = endpoint_.tls;
  } else {
    http.tls.insecure = endpoint_.tls.insecure;
    http.tls.ca_files = endpoint_.tls.ca_files;
  }
  if (request.body) {
    KILN_ASSIGN_OR_RETURN(http.body, request.body());
  }
  HttpLimits limits = shared_->limits;
  if (request.stall_timeout > absl::ZeroDuration()) limits.stall_timeout = request.stall_timeout;
  KILN_ASSIGN_OR_RETURN(const HostSlots::Slot slot,
                        shared_->slots.Acquire(endpoint_.host, request.json, call_.cancel));
  const auto begin = [&](const HttpResponse& response) -> absl::Status {
    if (response.status < 200 || response.status >= 300) return absl::OkStatus();
    *begun = true;
    return request.begin ? request.begin(response) : absl::OkStatus();
  };
  return HttpDo(http, limits, call_.cancel, begin, request.sink, &shared_->connections);
}

absl::StatusOr<HttpResponse> EndpointClient::Do(const EndpointRequest& request) {
  std::optional<HttpResponse> refused;  // the first one: later ones speak of poorer credentials
  int last_trouble = 0;
  for (int tries = 1, refusals = 0;; ++tries) {
    bool begun = false;
    absl::StatusOr<HttpResponse> response = Once(request, &begun);
    if (call_.cancel.Cancelled()) return call_.cancel.status();
    if (!response.ok()) {
      const absl::Status& status = response.status();
      if (absl::IsUnauthenticated(status) && !authorization_.token_refusal().ok())
        return Annotate(authorization_.token_refusal(),
                        absl::StrCat("no credentials for ", endpoint_.host));
      if (absl::IsUnauthenticated(status) && refused.has_value()) return *refused;
      const HttpFailure failure = FailureOf(status);
      const bool no_tls = failure == HttpFailure::kTls || failure == HttpFailure::kConnect;
      if (no_tls && endpoint_.may_fall_back) {
        endpoint_ = WithPlainHttp(endpoint_);
        if (failure == HttpFailure::kTls) shared_->SetPlain(endpoint_.host);
        continue;
      }
      // A kept connection may have died in the meantime.
      if (failure != HttpFailure::kTransfer || begun || !is_last_ || tries > 1) return response;
      KILN_RETURN_IF_ERROR(shared_->sleep(kTransferWait, call_.cancel));
      continue;
    }
    const int status = response->status;
    if (status == 401 || status == 403) {
      if (!refused.has_value()) refused = *response;
      // One round for each who may be asked for credentials, one to learn how, one for a token that
      // was kept too long.
      if (++refusals > kMaxTries + static_cast<int>(call_.session_ids.size()) ||
          !authorization_.Refused(*response))
        return *refused;
      continue;
    }
    if (tries >= kMaxTries) return response;
    if (IsThrottled(status)) {
      const absl::Duration asked = RetryAfter(*response, absl::Now());
      KILN_RETURN_IF_ERROR(
          shared_->sleep(asked > absl::ZeroDuration() ? asked : kThrottledWait, call_.cancel));
      continue;
    }
    if (IsServerTrouble(status) && is_last_ && status != last_trouble) {
      last_trouble = status;
      const absl::Duration asked = RetryAfter(*response, absl::Now());
      KILN_RETURN_IF_ERROR(shared_->sleep(std::max(asked, kTransferWait), call_.cancel));
      continue;
    }
    return response;
  }
}

}  // namespace kiln::daemon
