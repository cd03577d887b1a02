#include "daemon/session/packet_call.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/client_callback.h>

#include <deque>
#include <utility>

#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/fsutil/packet_codec.h"

namespace kiln::daemon {
namespace {

// Packets read ahead, or on their way out; and their bytes, the last packet not counted.
constexpr size_t kMaxQueued = 256;
constexpr size_t kMaxQueuedBytes = 1 << 20;

absl::Status StreamEnded() { return absl::UnavailableError("the call has ended"); }

class Queue {
 public:
  bool empty() const { return packets_.empty(); }
  size_t size() const { return packets_.size(); }
  bool full() const { return packets_.size() >= kMaxQueued || bytes_ >= kMaxQueuedBytes; }
  void Push(grpc::ByteBuffer packet) {
    bytes_ += packet.Length();
    packets_.push_back(std::move(packet));
  }
  grpc::ByteBuffer Pop() {
    grpc::ByteBuffer packet = std::move(packets_.front());
    packets_.pop_front();
    bytes_ -= packet.Length();
    return packet;
  }
  void Clear() {
    packets_.clear();
    bytes_ = 0;
  }

 private:
  std::deque<grpc::ByteBuffer> packets_;
  size_t bytes_ = 0;
};

}  // namespace

// Reactions only move packets and wake who waits. A hold keeps the call from being done while the
// threads of its user may start something.
class PacketCall::Reactor : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  void Start(const std::shared_ptr<grpc::Channel>& channel, const char* method,
             grpc::ClientContext* context) {
    grpc::GenericStub(channel).PrepareBidiStreamingCall(context, method, {}, this);
    MutexLock lock(&mu_);
    reading_ = true;
    StartRead(&incoming_);
    AddHold();
    StartCall();
  }

  // False: the peer sends no more.
  bool Read(grpc::ByteBuffer* packet) {
    if (taken_.empty() && !Take()) return false;
    *packet = taken_.Pop();
    return true;
  }

  bool Write(grpc::ByteBuffer packet) {
    MutexLock lock(&mu_);
    while (to_send_.full() && !broken_) writable_.Wait(&mu_);
    if (!broken_) to_send_.Push(std::move(packet));
    WriteOnLocked();
    ended_ = ended_ || broken_;
    return !broken_;
  }

  bool Flush(bool last) {
    MutexLock lock(&mu_);
    half_close_ = half_close_ || last;
    flushed_ = true;
    WriteOnLocked();
    ended_ = ended_ || broken_;
    return !broken_;
  }

  bool ended() {
    MutexLock lock(&mu_);
    return ended_;
  }

  grpc::Status Finish() {
    MutexLock lock(&mu_);
    DrainLocked();
    while (!done_) changed_.Wait(&mu_);
    return status_;
  }

  void WhenEnded(std::function<void()> ended) {
    MutexLock lock(&mu_);
    when_ended_ = std::move(ended);
    DrainLocked();
  }

 private:
  // All that was received, at once.
  bool Take() {
    MutexLock lock(&mu_);
    while (received_.empty() && !all_read_) {
      reader_waits_ = true;
      readable_.Wait(&mu_);
    }
    ended_ = ended_ || received_.empty();
    std::swap(taken_, received_);
    ReadOnLocked();
    return !taken_.empty();
  }

  void OnReadDone(bool ok) override {
    MutexLock lock(&mu_);
    reading_ = false;
    if (!ok) {
      all_read_ = true;
      BreakLocked();  // the peer has ended the call
    } else {
      if (!draining_) received_.Push(std::move(incoming_));
      incoming_.Clear();
      ReadOnLocked();
    }
    if (std::exchange(reader_waits_, false)) readable_.Signal();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) BreakLocked();
    WriteOnLocked();
    if (!to_send_.full()) writable_.Signal();
  }

  void OnDone(const grpc::Status& status) override {
    std::function<void()> ended;
    {
      MutexLock lock(&mu_);
      status_ = status;
      done_ = true;
      ended = std::move(when_ended_);
      changed_.SignalAll();
      if (!ended) return;  // *this may be gone
    }
    ended();
  }

  void BreakLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    broken_ = true;
    to_send_.Clear();
    writable_.Signal();
  }

  void ReadOnLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (reading_ || all_read_ || received_.full()) return;
    reading_ = true;
    StartRead(&incoming_);
  }

  void WriteOnLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || broken_ || half_closed_) return;
    if (to_send_.size() > (flushed_ ? 0 : 1)) {
      outgoing_ = to_send_.Pop();
      writing_ = true;
      half_closed_ = half_close_ && to_send_.empty();
      grpc::WriteOptions options;
      if (half_closed_) {
        options.set_last_message();
      } else if (!to_send_.empty()) {
        options.set_buffer_hint();
      }
      StartWrite(&outgoing_, options);
    } else if (to_send_.empty()) {
      flushed_ = false;
      if (!half_close_) return;
      half_closed_ = true;
      StartWritesDone();
    }
  }

  // What the peer still sends is dropped, and the call may be done.
  void DrainLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    draining_ = flushed_ = half_close_ = true;
    received_.Clear();
    ReadOnLocked();
    WriteOnLocked();
    RemoveHold();
  }

  Mutex mu_;
  CondVar readable_, writable_, changed_;
  Queue taken_;  // the reader's
  Queue received_ ABSL_GUARDED_BY(mu_);
  bool reader_waits_ ABSL_GUARDED_BY(mu_) = false;
  Queue to_send_ ABSL_GUARDED_BY(mu_);
  bool reading_ ABSL_GUARDED_BY(mu_) = false, writing_ ABSL_GUARDED_BY(mu_) = false;
  bool all_read_ ABSL_GUARDED_BY(mu_) = false;    // the peer sends no more
  bool broken_ ABSL_GUARDED_BY(mu_) = false;      // nothing can be sent any more
  bool ended_ ABSL_GUARDED_BY(mu_) = false;       // Read or Write has seen it
  bool flushed_ ABSL_GUARDED_BY(mu_) = false;     // what is queued goes out, all of it
  bool half_close_ ABSL_GUARDED_BY(mu_) = false;  // after what is queued
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mu_);
  std::function<void()> when_ended_ ABSL_GUARDED_BY(mu_);
  grpc::ByteBuffer incoming_, outgoing_;  // gRPC's between Start* and its reaction, then under mu_
};

PacketCall::PacketCall(const std::shared_ptr<grpc::Channel>& channel, const char* method,
                       grpc::ClientContext* context)
    : context_(context), reactor_(std::make_unique<Reactor>()) {
  reactor_->Start(channel, method, context);
}

PacketCall::~PacketCall() = default;

absl::StatusOr<bool> PacketCall::Read(fsutil::Packet* packet) {
  grpc::ByteBuffer buffer;
  if (!reactor_->Read(&buffer)) return false;
  grpc::Slice slice;
  if (!buffer.TrySingleSlice(&slice).ok() && !buffer.DumpToSingleSlice(&slice).ok())
    return absl::InternalError("read a message");
  KILN_RETURN_IF_ERROR(fsutil::ParsePacket(
      absl::string_view(reinterpret_cast<const char*>(slice.begin()), slice.size()), packet));
  return true;
}

absl::Status PacketCall::Write(const fsutil::Packet& packet) {
  std::string bytes;
  fsutil::AppendPacket(packet, &bytes);
  const grpc::Slice slice(bytes);
  return reactor_->Write(grpc::ByteBuffer(&slice, 1)) ? absl::OkStatus() : StreamEnded();
}

absl::Status PacketCall::Flush() {
  return reactor_->Flush(/*last=*/false) ? absl::OkStatus() : StreamEnded();
}

absl::Status PacketCall::WriteLast(const fsutil::Packet& packet) {
  KILN_RETURN_IF_ERROR(Write(packet));
  return reactor_->Flush(/*last=*/true) ? absl::OkStatus() : StreamEnded();
}

void PacketCall::Abort() {
  if (!reactor_->ended()) context_->TryCancel();
}

grpc::Status PacketCall::Finish() { return reactor_->Finish(); }

void PacketCall::WhenEnded(std::function<void()> ended) { reactor_->WhenEnded(std::move(ended)); }

}  // namespace kiln::daemon
