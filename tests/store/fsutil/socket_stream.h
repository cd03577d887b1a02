#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/fsutil/packet.h"
#include "store/fsutil/packet_codec.h"

namespace kiln::fsutil {

// Packets over a socket, each with a four-byte length in front. Writes are held back until Flush
// or 64 KiB.
class SocketStream : public PacketStream {
 public:
  explicit SocketStream(Fd fd) : fd_(std::move(fd)) {}

  static std::pair<std::unique_ptr<SocketStream>, std::unique_ptr<SocketStream>> Pair() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
    return {std::make_unique<SocketStream>(Fd(fds[0])), std::make_unique<SocketStream>(Fd(fds[1]))};
  }

  absl::StatusOr<bool> Read(Packet* packet) override {
    while (!Complete()) {
      if (begin_ > 0) {
        in_.erase(0, begin_);
        begin_ = 0;
      }
      const size_t old = in_.size();
      in_.resize(old + (128 << 10));
      const ssize_t n = ::recv(fd_.get(), in_.data() + old, 128 << 10, 0);
      in_.resize(old + static_cast<size_t>(n > 0 ? n : 0));
      if (n == 0) return false;
      if (n < 0) return absl::UnavailableError("recv");
    }
    const uint32_t size = Length();
    absl::Status status =
        ParsePacket(absl::string_view(in_).substr(begin_ + sizeof size, size), packet);
    begin_ += sizeof size + size;
    if (!status.ok()) return status;
    return true;
  }

  absl::Status Write(const Packet& packet) override {
    const uint32_t size = static_cast<uint32_t>(EncodedSize(packet));
    out_.append(reinterpret_cast<const char*>(&size), sizeof size);
    AppendPacket(packet, &out_);
    return out_.size() < (64 << 10) ? absl::OkStatus() : Flush();
  }

  absl::Status Flush() override {
    absl::string_view rest = out_;
    while (!rest.empty()) {
      const ssize_t n = ::send(fd_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      if (n < 0) return absl::UnavailableError("send");
      rest.remove_prefix(static_cast<size_t>(n));
    }
    out_.clear();
    return absl::OkStatus();
  }

  void Abort() override { ::shutdown(fd_.get(), SHUT_RDWR); }

 private:
  uint32_t Length() const {
    uint32_t size = 0;
    std::memcpy(&size, in_.data() + begin_, sizeof size);
    return size;
  }
  bool Complete() const {
    return in_.size() - begin_ >= sizeof(uint32_t) &&
           in_.size() - begin_ - sizeof(uint32_t) >= Length();
  }

  Fd fd_;
  std::string in_, out_;
  size_t begin_ = 0;
};

}  // namespace kiln::fsutil
