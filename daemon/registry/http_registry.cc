#include "daemon/registry/http_registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "daemon/registry/endpoint_client.h"
#include "daemon/source/http_client.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int kDefaultConcurrency = 4;
constexpr absl::Duration kFirstWait = absl::Seconds(1);
constexpr absl::Duration kWaitLimit = absl::Seconds(8);

// Which of several servers' errors says most: about who asks, what is asked, what came, the rest.
int Weight(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return 4;
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kResourceExhausted:
      return 3;
    case absl::StatusCode::kNotFound:
      return 2;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return 0;
    default:
      return 1;
  }
}

bool MayMend(const absl::Status& status, bool progressed) {
  switch (FailureOf(status)) {
    case HttpFailure::kNone:
      return absl::IsUnavailable(status);
    case HttpFailure::kTransfer:
      return true;
    case HttpFailure::kConnect:
      return progressed;  // it was there a moment ago
    default:
      return false;
  }
}

std::string PullScope(absl::string_view path) { return absl::StrCat("repository:", path, ":pull"); }

}  // namespace

HttpRegistry::HttpRegistry(SessionFinder* sessions, HttpRegistryOptions options)
    : config_(std::move(options.config)),
      shared_(std::make_unique<RegistryShared>(
          sessions, std::move(options.user_agent),
          options.max_concurrency > 0 ? options.max_concurrency : kDefaultConcurrency)) {
  shared_->limits.stall_timeout = absl::Seconds(60);
  shared_->limits.max_header_bytes = 64 << 10;
  shared_->sleep = std::move(options.sleep);
  if (!shared_->sleep)
    shared_->sleep = [](absl::Duration wait, const CancelToken& cancel) {
      return cancel.SleepFor(wait);
    };
}

HttpRegistry::~HttpRegistry() = default;

absl::Status HttpRegistry::OnAnyEndpoint(const Reference& repository, const RegistryCall& call,
                                         const EndpointWork& work,
                                         const std::function<bool()>& stop) {
  KILN_ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                        Endpoints(config_, repository, Purpose::kPull, call.insecure));
  absl::Status worst;
  for (size_t i = 0; i < endpoints.size(); ++i) {
    EndpointClient client(shared_.get(), endpoints[i], {PullScope(endpoints[i].path)}, call,
                          i + 1 == endpoints.size());
    absl::Status status = work(client);
    if (status.ok()) return status;
    if (call.cancel.Cancelled()) return call.cancel.status();
    if (stop && stop()) return status;
    if (worst.ok() || Weight(status) >= Weight(worst)) worst = std::move(status);
  }
  return worst;
}

absl::Status HttpRegistry::OnPushEndpoint(const Reference& repository,
                                          const std::string& mount_from, const RegistryCall& call,
                                          const EndpointWork& work) {
  KILN_ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                        Endpoints(config_, repository, Purpose::kPush, call.insecure));
  const Endpoint& endpoint = endpoints.back();
  std::vector<std::string> scopes = {absl::StrCat("repository:", endpoint.path, ":pull,push")};
  if (!mount_from.empty()) scopes.push_back(PullScope(mount_from));
  EndpointClient client(shared_.get(), endpoint, std::move(scopes), call, true);
  return work(client);
}

absl::Status HttpRegistry::WithRetries(const RegistryCall& call,
                                       const std::function<absl::Status()>& work,
                                       const std::function<int64_t()>& progress) {
  absl::Duration wait = kFirstWait;
  int64_t last = progress ? progress() : 0;
  const int64_t start = last;
  for (;;) {
    absl::Status status = work();
    if (status.ok()) return status;
    if (call.cancel.Cancelled()) return call.cancel.status();
    const int64_t now = progress ? progress() : last;
    if (now > last) wait = kFirstWait;
    last = now;
    if (call.once || !MayMend(status, now > start) || wait >= kWaitLimit) return status;
    if (call.log) {
      call.log(absl::StrCat("error: ", status.message()));
      call.log(absl::StrCat("retrying in ", absl::FormatDuration(wait)));
    }
    KILN_RETURN_IF_ERROR(shared_->sleep(wait, call.cancel));
    wait *= 2;
  }
}

absl::Status HttpRegistry::Outcome(const RegistryCall& call, const absl::Status& status,
                                   absl::string_view doing) {
  if (status.ok()) return status;
  return call.cancel.Cancelled() ? call.cancel.status() : Annotate(status, doing);
}

}  // namespace kiln::daemon
