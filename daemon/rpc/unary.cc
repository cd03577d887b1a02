#include "daemon/rpc/unary.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "daemon/rpc/status.h"

namespace kiln::daemon {

namespace {

class PooledCall : public grpc::ServerUnaryReactor {
 public:
  using Work = absl::AnyInvocable<absl::Status(const CancelToken&)>;

  PooledCall(ThreadPool* pool, Work work) : work_(std::move(work)) {
    pool->Post([this] {
      const absl::Status status = work_(cancel_.token());
      work_ = nullptr;  // what it captured must not outlive the answer
      Finish(ToGrpc(status));
    });
  }

 private:
  void OnCancel() override { cancel_.Cancel(); }
  void OnDone() override { delete this; }

  CancelSource cancel_;
  Work work_;
};

}  // namespace

grpc::ServerUnaryReactor* RunUnary(ThreadPool* pool,
                                   absl::AnyInvocable<absl::Status(const CancelToken&)> work) {
  return new PooledCall(pool, std::move(work));
}

grpc::ServerUnaryReactor* AnswerNow(grpc::CallbackServerContext* context,
                                    const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

}  // namespace kiln::daemon
