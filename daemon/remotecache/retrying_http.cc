#include "daemon/remotecache/retrying_http.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "daemon/registry/endpoint_client.h"
#include "daemon/registry/response_error.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

bool MayMend(int status) { return status == 408 || status == 429 || status >= 500; }

// libcurl names the whole URL.
absl::string_view WithoutQuery(absl::string_view url) { return url.substr(0, url.find('?')); }

absl::Status HideQuery(const absl::Status& status, absl::string_view url) {
  const size_t query = url.find('?');
  if (status.ok() || query == absl::string_view::npos) return status;
  absl::Status out(status.code(), absl::StrReplaceAll(status.message(), {{url.substr(query), ""}}));
  status.ForEachPayload(
      [&](absl::string_view name, const absl::Cord& value) { out.SetPayload(name, value); });
  return out;
}

}  // namespace

RetryingHttp::RetryingHttp(std::string user_agent, RetryPolicy policy,
                           std::function<absl::Status(absl::Duration, const CancelToken&)> sleep,
                           absl::Duration connect_timeout)
    : user_agent_(std::move(user_agent)), policy_(policy), sleep_(std::move(sleep)) {
  if (!sleep_)
    sleep_ = [](absl::Duration wait, const CancelToken& cancel) { return cancel.SleepFor(wait); };
  limits_.max_redirects = 0;
  limits_.connect_timeout = connect_timeout;
  limits_.stall_timeout = absl::Seconds(60);
  limits_.max_header_bytes = 64 << 10;
}

absl::StatusOr<HttpResponse> RetryingHttp::Once(
    HttpRequest request, const CancelToken& cancel, int64_t* taken,
    const std::function<absl::Status(absl::string_view)>& sink) {
  request.headers.emplace_back("User-Agent", user_agent_);
  int64_t skip = 0;
  const auto begin = [&](const HttpResponse& response) -> absl::Status {
    // The whole, though only its rest was asked for.
    if (response.status == 200) skip = *taken;
    return absl::OkStatus();
  };
  const auto take = [&](absl::string_view data) -> absl::Status {
    const auto drop = static_cast<size_t>(std::min<int64_t>(skip, data.size()));
    skip -= static_cast<int64_t>(drop);
    data.remove_prefix(drop);
    *taken += static_cast<int64_t>(data.size());
    return data.empty() ? absl::OkStatus() : sink(data);
  };
  absl::StatusOr<HttpResponse> response =
      HttpDo(request, limits_, cancel, begin, take, &connections_);
  if (!response.ok()) return HideQuery(response.status(), request.url);
  return response;
}

absl::StatusOr<HttpResponse> RetryingHttp::Download(
    const std::function<absl::StatusOr<HttpRequest>(int64_t offset)>& make,
    const CancelToken& cancel, const std::function<absl::Status(absl::string_view)>& sink) {
  absl::Duration wait = policy_.first_wait, waited;
  int64_t taken = 0;
  for (int attempt = 1;; ++attempt) {
    const int64_t before = taken;
    KILN_ASSIGN_OR_RETURN(HttpRequest request, make(taken));
    absl::StatusOr<HttpResponse> response = Once(std::move(request), cancel, &taken, sink);
    if (cancel.Cancelled()) return cancel.status();
    if (response.ok() && !MayMend(response->status)) return response;
    if (response.ok() && response->status == 429 && !policy_.throttling_counts) --attempt;
    const HttpFailure failure = FailureOf(response.status());
    if (!response.ok() && failure != HttpFailure::kTransfer && failure != HttpFailure::kConnect)
      return response;
    if (taken > before) {  // it got further: everything starts over
      attempt = 1;
      wait = policy_.first_wait;
    }
    absl::Duration now = wait;
    wait = std::min(wait * 2, policy_.longest_wait);
    if (response.ok()) {
      const absl::Duration asked = RetryAfter(*response, absl::Now());
      if (asked > absl::ZeroDuration()) now = asked;
    }
    if (attempt >= policy_.max_attempts || waited + now > policy_.give_up_after) return response;
    waited += now;
    KILN_RETURN_IF_ERROR(sleep_(now, cancel));
  }
}

absl::StatusOr<RetryingHttp::Answer> RetryingHttp::Do(
    const std::function<absl::StatusOr<HttpRequest>()>& make, const CancelToken& cancel,
    int64_t limit_bytes) {
  Answer answer;
  // A small body that breaks is asked for anew, as its request may be one that changes things.
  KILN_ASSIGN_OR_RETURN(
      answer.response,
      Download([&](int64_t) { return make(); }, cancel,
               [&](absl::string_view data) {
                 if (static_cast<int64_t>(answer.body.size() + data.size()) > limit_bytes)
                   return absl::ResourceExhaustedError(
                       absl::StrCat("the answer is larger than ", limit_bytes, " bytes"));
                 answer.body.append(data.data(), data.size());
                 return absl::OkStatus();
               }));
  return answer;
}

absl::Status ServiceError(const HttpRequest& request, const HttpResponse& response,
                          absl::string_view text) {
  return StatusError(request.method, WithoutQuery(request.url), response.status, text);
}

}  // namespace kiln::daemon
