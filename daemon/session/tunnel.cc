#include "daemon/session/tunnel.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/channel_arguments.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/rpc/status.h"
#include "daemon/session/health.h"
#include "daemon/session/sent_frames.h"
#include "proto/buildkit/control.pb.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using moby::buildkit::v1::BytesMessage;

constexpr int kMaxMessageBytes = 16 << 20;
constexpr int kMaxMetadataBytes = 4 << 20;
constexpr size_t kChunkBytes = 128 << 10;
constexpr size_t kFewBytes = 8 << 10;  // most of what travels is less
constexpr absl::Duration kHold = absl::Milliseconds(100);
constexpr char kIdHeader[] = "x-docker-expose-session-uuid";
constexpr char kSharedKeyHeader[] = "x-docker-expose-session-sharedkey";
constexpr char kMethodHeader[] = "x-docker-expose-session-grpc-method";
constexpr char kHealthHeader[] = "x-buildkit-session-health-custom-timeout";

std::string ToString(grpc::string_ref text) { return std::string(text.data(), text.size()); }

std::string FirstHeader(const grpc::CallbackServerContext& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  return found == context.client_metadata().end() ? "" : ToString(found->second);
}

class AttachedSession : public Session {
 public:
  AttachedSession(std::string id, std::string shared_key, absl::flat_hash_set<std::string> methods,
                  std::shared_ptr<grpc::Channel> channel)
      : id_(std::move(id)),
        shared_key_(std::move(shared_key)),
        methods_(std::move(methods)),
        channel_(std::move(channel)) {}

  const std::string& id() const override { return id_; }
  const std::string& shared_key() const override { return shared_key_; }
  bool Supports(absl::string_view method) const override {
    return methods_.contains(absl::AsciiStrToLower(method));
  }
  std::shared_ptr<grpc::Channel> channel() const override { return channel_; }
  CancelToken closed() const override { return closed_.token(); }
  void Close() { closed_.Cancel(absl::UnavailableError("session closed")); }

 private:
  const std::string id_, shared_key_;
  const absl::flat_hash_set<std::string> methods_;  // lower case
  const std::shared_ptr<grpc::Channel> channel_;
  CancelSource closed_;
};

absl::flat_hash_set<std::string> Methods(const grpc::CallbackServerContext& context) {
  absl::flat_hash_set<std::string> methods;
  const auto range = context.client_metadata().equal_range(kMethodHeader);
  for (auto it = range.first; it != range.second; ++it)
    methods.insert(absl::AsciiStrToLower(ToString(it->second)));
  return methods;
}

HealthPolicy PolicyFor(const grpc::CallbackServerContext& context) {
  HealthPolicy policy;
  int64_t ms = 0;
  const std::string custom = FirstHeader(context, kHealthHeader);
  if (absl::SimpleAtoi(custom, &ms) && ms > 0) {
    policy.interval = policy.timeout = absl::Milliseconds(std::max<int64_t>(ms, 1000));
    policy.failures = 1;
  }
  return policy;
}

// Refuses the call.
class Refusal : public grpc::ServerBidiReactor<BytesMessage, BytesMessage> {
 public:
  explicit Refusal(const absl::Status& status) { Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

// The pump. Each direction does its socket call at once and without blocking; only when that would
// block does the loop wait for the socket. There is never more than one message in flight in each
// direction, so a slow side stops the other.
//
// gRPC's reactions, the loop and Fail() run on different threads: everything is under mu_. The
// object holds itself until OnDone, which comes after every reaction has returned.
class Tunnel : public grpc::ServerBidiReactor<BytesMessage, BytesMessage> {
 public:
  Tunnel(SessionHost* host, Fd fd, std::shared_ptr<AttachedSession> session)
      : host_(host), fd_(std::move(fd)), session_(std::move(session)) {}

  static Tunnel* Start(SessionHost* host, Fd fd, std::shared_ptr<AttachedSession> session,
                       const HealthPolicy& policy) {
    auto tunnel = std::make_shared<Tunnel>(host, std::move(fd), std::move(session));
    Tunnel* raw = tunnel.get();
    const std::weak_ptr<Tunnel> weak = tunnel;
    raw->self_ = std::move(tunnel);
    host->registry_.Add(raw->session_);
    raw->StartSendInitialMetadata();
    {
      MutexLock lock(&raw->mu_);
      raw->watch_ = host->loop_.Add(raw->fd_.get(), [weak](uint32_t events) {
        if (auto self = weak.lock()) self->OnSocketReady(events);
      });
      raw->StartRead(&raw->incoming_);
      raw->ReceiveLocked();
    }
    WatchHealth(&host->loop_, &host->health_calls_, raw->session_, policy,
                [weak](absl::Status why) {
                  if (auto self = weak.lock()) self->Fail(why);
                });
    return raw;
  }

 private:
  // Stream -> socket.
  void OnReadDone(bool ok) override {
    MutexLock lock(&mu_);
    sent_ = 0;
    if (ok) {
      SendLocked();
    } else {
      FinishLocked(absl::OkStatus());  // half-closed or gone
    }
  }

  // Socket -> stream.
  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    if (ok) {
      outgoing_.mutable_data()->clear();
      ReceiveLocked();
    } else {
      FinishLocked(absl::OkStatus());
    }
  }

  void OnCancel() override {
    MutexLock lock(&mu_);
    FinishLocked(absl::CancelledError("session closed by the client"));
  }

  void OnDone() override {
    host_->loop_.Remove(watch_);
    host_->reaper_.Post([session = std::move(session_)]() mutable { session.reset(); });
    self_.reset();  // deletes *this, unless the loop still holds it for a moment
  }

  void OnSocketReady(uint32_t events) {
    MutexLock lock(&mu_);
    armed_ = 0;
    const bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (want_write_ && (broken || (events & EPOLLOUT) != 0)) {
      want_write_ = false;
      SendLocked();
    }
    if (want_read_ && (broken || (events & EPOLLIN) != 0)) {
      want_read_ = false;
      ReceiveLocked();
    }
    ArmLocked();
  }

  void Fail(const absl::Status& why) {
    MutexLock lock(&mu_);
    spdlog::warn("session {}: {}", session_->id(), std::string(why.message()));
    FinishLocked(absl::OkStatus());
  }

  void SendLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const std::string& data = incoming_.data();
    while (!finished_ && sent_ < data.size()) {
      const ssize_t sent =
          send(fd_.get(), data.data() + sent_, data.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) {
        sent_ += sent;
      } else if (errno == EAGAIN) {
        want_write_ = true;
        return ArmLocked();
      } else if (errno != EINTR) {
        return FinishLocked(absl::OkStatus());  // our channel is gone
      }
    }
    if (!finished_) StartRead(&incoming_);
  }

  // What waits in outgoing_ goes before what is received.
  void ReceiveLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_) return;
    std::string& data = *outgoing_.mutable_data();
    char few[kFewBytes];
    const ssize_t got = recv(fd_.get(), few, sizeof(few), MSG_DONTWAIT);
    if (got > 0) {
      const size_t held = data.size();
      data.append(few, got);
      if (got == sizeof(few)) ReceiveMore(&data);
      sent_frames_.Pass(&data, held);
      if (!sent_frames_.CanWait()) return WriteLocked();
      if (!data.empty()) HoldLocked();
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      return FinishLocked(absl::OkStatus());
    }
    // An idle session keeps no buffer.
    if (data.empty()) std::string().swap(data);
    want_read_ = true;
    ArmLocked();
  }

  void ReceiveMore(std::string* data) {
    const size_t have = data->size();
    data->resize(have + kChunkBytes);
    const ssize_t got = recv(fd_.get(), data->data() + have, kChunkBytes, MSG_DONTWAIT);
    data->resize(have + std::max<ssize_t>(got, 0));
  }

  // Each message costs the client a wake-up, and one that comes while it closes costs more:
  // BuildKit's client then gives its HTTP/2 server more than it received, which waits a second for
  // our end or calls it a protocol error. So a session's last frames had better not go by
  // themselves.
  void HoldLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (held_) return;
    held_ = true;
    host_->loop_.PostAfter(kHold, [weak = std::weak_ptr<Tunnel>(self_)] {
      if (auto self = weak.lock()) self->OnHeldLongEnough();
    });
  }

  void OnHeldLongEnough() {
    MutexLock lock(&mu_);
    held_ = false;
    // Who does not want to read writes already.
    if (finished_ || !want_read_ || outgoing_.data().empty()) return;
    want_read_ = false;
    WriteLocked();
  }

  void WriteLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    sent_frames_.Sent();
    StartWrite(&outgoing_);
  }

  void ArmLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const uint32_t events = (want_read_ ? EPOLLIN : 0u) | (want_write_ ? EPOLLOUT : 0u);
    if (finished_ || events == armed_) return;
    armed_ = events;
    host_->loop_.Arm(watch_, events);
  }

  // Ends the session for everybody and the call. Only the first one counts.
  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (finished_) return;
    finished_ = true;
    shutdown(fd_.get(), SHUT_RDWR);  // calls through the channel fail at once
    host_->registry_.Remove(*session_);
    session_->Close();
    Finish(ToGrpc(status));
  }

  SessionHost* const host_;
  const Fd fd_;  // our end; gRPC owns the other
  std::shared_ptr<AttachedSession> session_;
  std::shared_ptr<Tunnel> self_;
  Mutex mu_;
  uint64_t watch_ = 0;  // set before anything is started
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool want_read_ ABSL_GUARDED_BY(mu_) = false;
  bool want_write_ ABSL_GUARDED_BY(mu_) = false;
  bool held_ ABSL_GUARDED_BY(mu_) = false;  // a look at what waits in outgoing_ is to come
  uint32_t armed_ ABSL_GUARDED_BY(mu_) = 0;
  size_t sent_ ABSL_GUARDED_BY(mu_) = 0;  // bytes of incoming_ written to the socket
  SentFrames sent_frames_ ABSL_GUARDED_BY(mu_);
  BytesMessage incoming_, outgoing_;  // gRPC's between Start* and its reaction, then under mu_
};

SessionHost::~SessionHost() { health_calls_.WaitUntilNone(); }

grpc::ServerBidiReactor<BytesMessage, BytesMessage>* SessionHost::Open(
    grpc::CallbackServerContext* context) {
  std::string id = FirstHeader(*context, kIdHeader);
  if (id.empty())
    return new Refusal(
        absl::InvalidArgumentError("session call without " + std::string(kIdHeader)));
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
    return new Refusal(ErrnoStatus(errno, "open a session"));
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(kMaxMessageBytes);
  args.SetMaxSendMessageSize(kMaxMessageBytes);
  args.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  // Windows, frame sizes and BDP probing stay as they are: nothing else was faster.
  auto channel = grpc::CreateCustomInsecureChannelFromFd("localhost", pair[0], args);
  auto session =
      std::make_shared<AttachedSession>(std::move(id), FirstHeader(*context, kSharedKeyHeader),
                                        Methods(*context), std::move(channel));
  return Tunnel::Start(this, Fd(pair[1]), std::move(session), PolicyFor(*context));
}

}  // namespace kiln::daemon
