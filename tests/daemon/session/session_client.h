#pragma once

#include <fcntl.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "proto/buildkit/control.grpc.pb.h"
#include "store/base/fd.h"

namespace kiln::daemon {

// The client's side of a session, for tests: a gRPC server inside a Control.Session stream.
class SessionClient {
 public:
  using BytesMessage = moby::buildkit::v1::BytesMessage;

  SessionClient(std::shared_ptr<grpc::Channel> channel, const std::string& id,
                const std::vector<grpc::Service*>& services,
                const std::vector<std::pair<std::string, std::string>>& headers = {})
      : stub_(moby::buildkit::v1::Control::NewStub(channel)) {
    grpc::ServerBuilder builder;
    for (grpc::Service* service : services) builder.RegisterService(service);
    server_ = builder.BuildAndStart();
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    grpc::AddInsecureChannelFromFd(server_.get(), pair[0]);
    fd_ = Fd(pair[1]);
    context_.AddMetadata("x-docker-expose-session-uuid", id);
    context_.AddMetadata("x-docker-expose-session-sharedkey", "dir:key");
    context_.AddMetadata("x-docker-expose-session-grpc-method", "/grpc.health.v1.Health/Check");
    context_.AddMetadata("x-docker-expose-session-grpc-method",
                         "/moby.buildkit.secrets.v1.Secrets/GetSecret");
    for (const auto& [key, value] : headers) context_.AddMetadata(key, value);
    stream_ = stub_->Session(&context_);
    to_stream_ = std::thread([this] {
      std::string buffer(64 << 10, '\0');
      ssize_t got;
      while ((got = recv(fd_.get(), buffer.data(), buffer.size(), 0)) > 0) {
        BytesMessage message;
        message.set_data(buffer.data(), got);
        if (!stream_->Write(message)) break;
      }
      stream_->WritesDone();
    });
    from_stream_ = std::thread([this] {
      BytesMessage message;
      while (stream_->Read(&message)) {
        if (!Follow(message.data())) break;
        if (send(fd_.get(), message.data().data(), message.data().size(), MSG_NOSIGNAL) < 0) break;
      }
      shutdown(fd_.get(), SHUT_RDWR);
    });
  }

  ~SessionClient() { Close(); }

  // Whether the daemon sent a frame of a stream that it had not opened: a connection error (RFC
  // 9113, section 5.1), for which a Go client ends the session. This client does, too. After Close.
  bool idle_stream_used() const { return idle_stream_used_; }

  // Half-closes, reads to the end; the status of the call.
  grpc::Status Close() {
    if (stream_ == nullptr) return grpc::Status::OK;
    shutdown(fd_.get(), SHUT_RD);
    return Join();
  }

  // As if the client were killed.
  grpc::Status Kill() {
    context_.TryCancel();
    shutdown(fd_.get(), SHUT_RDWR);
    return Join();
  }

 private:
  // Reads the heads of the frames that come. False: one of an idle stream.
  bool Follow(const std::string& bytes) {
    constexpr size_t kHeadBytes = 9;
    constexpr uint8_t kHeaders = 1;
    unread_ += bytes;
    while (unread_.size() >= skip_ + kHeadBytes) {
      const auto* head = reinterpret_cast<const uint8_t*>(unread_.data() + skip_);
      const size_t length = head[0] << 16 | head[1] << 8 | head[2];
      const uint32_t stream = head[5] << 24 | head[6] << 16 | head[7] << 8 | head[8];
      if (head[3] == kHeaders) opened_ = std::max(opened_, stream);
      if (stream > opened_) idle_stream_used_ = true;
      unread_.erase(0, skip_);
      skip_ = kHeadBytes + length;
    }
    return !idle_stream_used_;
  }

  grpc::Status Join() {
    to_stream_.join();
    from_stream_.join();
    const grpc::Status status = stream_->Finish();
    stream_.reset();
    server_->Shutdown(std::chrono::system_clock::now());
    return status;
  }

  std::unique_ptr<moby::buildkit::v1::Control::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::Server> server_;
  Fd fd_;
  std::unique_ptr<grpc::ClientReaderWriter<BytesMessage, BytesMessage>> stream_;
  std::string unread_;
  size_t skip_ = 24;  // bytes of unread_ before the next frame: first the preface
  uint32_t opened_ = 0;
  bool idle_stream_used_ = false;
  std::thread to_stream_, from_stream_;
};

}  // namespace kiln::daemon
