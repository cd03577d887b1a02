#include "daemon/rpc/callback_threads.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <utility>

#include "absl/time/time.h"
#include "store/base/mutex.h"

namespace kiln::daemon {
namespace {

constexpr absl::Duration kPeriod = absl::Milliseconds(300);
constexpr unsigned kFewProcessors = 2;

// Has a function called by one of the threads. One call at a time.
class Caller {
 public:
  // The function must not destroy the caller, which must outlive it.
  void Call(std::function<void()> then) {
    call_ = std::make_unique<OneCall>();
    stub_.UnaryCall(&call_->context, "/kiln.Nowhere/Call", {}, &call_->request, &call_->response,
                    [then = std::move(then)](const grpc::Status&) { then(); });
  }

 private:
  struct OneCall {
    grpc::ClientContext context;
    const grpc::Slice nothing;
    const grpc::ByteBuffer request{&nothing, 1};
    grpc::ByteBuffer response;
  };
  // Without credentials: every call fails at once.
  grpc::GenericStub stub_{grpc::CreateChannel("", nullptr)};
  // The last one. Not the callback's: its context holds the channel, and whoever lets go of the
  // last channel joins gRPC's threads, which one of them must not do.
  std::unique_ptr<OneCall> call_;
};

}  // namespace

class CallbackThreads::Ticker : public std::enable_shared_from_this<Ticker> {
 public:
  explicit Ticker(FdLoop* timers) : timers_(timers) {}

  void Tick() {
    {
      MutexLock lock(&mu_);
      if (stopped_) return;
      calling_ = true;
    }
    caller_.Call([this] { Ended(); });
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
  Caller caller_;
  Mutex mu_;
  CondVar ended_;
  bool calling_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

// Holds one thread. One at a time in a process: they all have the same threads.
class CallbackThreads::Parking {
 public:
  static std::unique_ptr<Parking> Take() {
    if (taken_.exchange(true)) return nullptr;
    return std::unique_ptr<Parking>(new Parking());
  }

  ~Parking() {
    {
      MutexLock lock(&mu_);
      leaving_ = true;
      changed_.SignalAll();
      while (!left_) changed_.Wait(&mu_);
    }
    taken_.store(false);
  }

 private:
  Parking() {
    caller_.Call([this] {
      MutexLock lock(&mu_);
      while (!leaving_) changed_.Wait(&mu_);
      left_ = true;
      changed_.SignalAll();
    });
  }

  static inline std::atomic<bool> taken_ = false;
  Caller caller_;
  Mutex mu_;
  CondVar changed_;
  bool leaving_ ABSL_GUARDED_BY(mu_) = false;
  bool left_ ABSL_GUARDED_BY(mu_) = false;
};

CallbackThreads::CallbackThreads(FdLoop* timers, unsigned processors)
    : ticker_(std::make_shared<Ticker>(timers)) {
  ticker_->Tick();
  if (processors <= kFewProcessors) parking_ = Parking::Take();
}

CallbackThreads::~CallbackThreads() {
  parking_.reset();
  ticker_->Stop();
}

unsigned ProcessorCount() {
  return static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_CONF)));
}

}  // namespace kiln::daemon
