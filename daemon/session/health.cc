#include "daemon/session/health.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "daemon/rpc/status.h"
#include "proto/grpc/health.grpc.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

// Lives from one check to the next: the timer holds it, then the call does.
struct Watch : std::enable_shared_from_this<Watch> {
  FdLoop* loop;
  HealthCalls* calls;
  std::weak_ptr<Session> session;
  HealthPolicy policy;
  std::function<void(absl::Status)> dead;
  absl::Duration last_took = absl::ZeroDuration();
  int failed = 0;

  void Schedule() {
    loop->PostAfter(policy.interval, [self = shared_from_this()] { self->Check(); });
  }
  void Check();
  void Done(const grpc::Status& status, absl::Duration took);
};

struct Call {
  std::shared_ptr<Watch> watch;
  std::unique_ptr<grpc::health::v1::Health::Stub> stub;
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  grpc::health::v1::HealthCheckResponse response;
};

void Watch::Check() {
  const SessionPtr alive = session.lock();
  if (alive == nullptr || alive->closed().Cancelled()) return;
  auto call = std::make_shared<Call>();
  call->watch = shared_from_this();
  call->stub = grpc::health::v1::Health::NewStub(alive->channel());
  const absl::Duration timeout = std::max(policy.timeout, last_took * 1.5);
  const absl::Time started = absl::Now();
  call->context.set_deadline(absl::ToChronoTime(started + timeout));
  calls->Begin();
  call->stub->async()->Check(&call->context, &call->request, &call->response,
                             [call, started](grpc::Status status) {
                               const std::shared_ptr<Watch> watch = call->watch;
                               // The call (and its hold on the channel) goes on the loop thread,
                               // not here.
                               watch->loop->Post([call, status, started]() mutable {
                                 call->watch->Done(status, absl::Now() - started);
                                 call.reset();
                               });
                               watch->calls->End();
                             });
}

void Watch::Done(const grpc::Status& status, absl::Duration took) {
  const SessionPtr alive = session.lock();
  if (alive == nullptr || alive->closed().Cancelled()) return;
  if (status.ok()) {
    failed = 0;
    last_took = took;
  } else if (++failed >= policy.failures) {
    dead(Annotate(FromGrpc(status), "session healthcheck failed fatally"));
    return;
  }
  Schedule();
}

}  // namespace

void WatchHealth(FdLoop* loop, HealthCalls* calls, const SessionPtr& session,
                 const HealthPolicy& policy, std::function<void(absl::Status)> dead) {
  auto watch = std::make_shared<Watch>();
  watch->loop = loop;
  watch->calls = calls;
  watch->session = session;
  watch->policy = policy;
  watch->dead = std::move(dead);
  watch->Schedule();
}

}  // namespace kiln::daemon
