#include "daemon/rpc/awake_pollers.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include "absl/time/time.h"
#include "store/base/mutex.h"

namespace kiln::daemon {
namespace {

constexpr absl::Duration kPeriod = absl::Milliseconds(300);

struct Call {
  grpc::ClientContext context;
  const grpc::Slice nothing;
  const grpc::ByteBuffer request{&nothing, 1};
  grpc::ByteBuffer response;
};

}  // namespace

class AwakePollers::Ticker : public std::enable_shared_from_this<Ticker> {
 public:
  explicit Ticker(FdLoop* timers) : timers_(timers) {}

  void Tick() {
    {
      MutexLock lock(&mu_);
      if (stopped_) return;
      calling_ = true;
    }
    call_ = std::make_unique<Call>();
    stub_.UnaryCall(&call_->context, "/kiln.Nowhere/Call", {}, &call_->request, &call_->response,
                    [this](const grpc::Status&) { Ended(); });
  }

  void Stop() {
    MutexLock lock(&mu_);
    stopped_ = true;
    while (calling_) ended_.Wait(&mu_);
  }

 private:
  // On a thread of gRPC's, which must not be the one that destroys the channel.
  void Ended() {
    MutexLock lock(&mu_);
    if (!stopped_) {
      timers_->PostAfter(kPeriod, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->Tick();
      });
    }
    calling_ = false;
    ended_.SignalAll();
  }

  FdLoop* const timers_;
  // Without credentials: every call fails at once.
  grpc::GenericStub stub_{grpc::CreateChannel("", nullptr)};
  // The last one. Not the callback's: its context holds the channel, and whoever lets go of the
  // last channel joins gRPC's threads, which one of them must not do.
  std::unique_ptr<Call> call_;
  Mutex mu_;
  CondVar ended_;
  bool calling_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

AwakePollers::AwakePollers(FdLoop* timers) : ticker_(std::make_shared<Ticker>(timers)) {
  ticker_->Tick();
}

AwakePollers::~AwakePollers() { ticker_->Stop(); }

}  // namespace kiln::daemon
