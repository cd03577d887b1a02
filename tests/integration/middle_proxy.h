#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"

namespace kiln::integration {

// A loopback port in front of another one, that does something when a transfer is in its middle:
// the bytes that follow pass only afterwards.
class MiddleProxy {
 public:
  enum class Way { kUp, kDown };  // to the server, from it

  explicit MiddleProxy(uint16_t server_port)
      : server_port_(server_port), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof address;
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
      std::abort();
    host_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
    thread_ = std::thread([this] { Serve(); });
  }
  ~MiddleProxy() {
    stop_ = true;
    thread_.join();
  }

  const std::string& host() const { return host_; }
  // Once, when one connection has passed that many bytes that way.
  void When(Way way, size_t bytes, absl::AnyInvocable<void()> act) {
    MutexLock lock(&mu_);
    way_ = way;
    bytes_ = bytes;
    act_ = std::move(act);
  }

 private:
  static sockaddr_in Loopback(uint16_t port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
  }

  void Serve() {
    std::vector<std::thread> workers;
    while (!stop_) {
      pollfd poll = {listener_.get(), POLLIN, 0};
      if (::poll(&poll, 1, 20) <= 0) continue;
      Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client.valid()) continue;
      workers.emplace_back([this, raw = client.Release()] { Pass(Fd(raw)); });
    }
    for (std::thread& worker : workers) worker.join();
  }

  void Pass(Fd client) {
    Fd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    // What passes later is not yet written: else the server might be done before the middle is.
    const int small = 64 << 10;
    ::setsockopt(server.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    sockaddr_in address = Loopback(server_port_);
    if (::connect(server.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return;
    size_t passed[2] = {0, 0};
    std::string buffer(32 << 10, '\0');
    while (!stop_) {
      pollfd polls[2] = {{client.get(), POLLIN, 0}, {server.get(), POLLIN, 0}};
      if (::poll(polls, 2, 20) <= 0) continue;
      for (const int from : {0, 1}) {
        if (polls[from].revents == 0) continue;
        const ssize_t n = ::recv(polls[from].fd, buffer.data(), buffer.size(), 0);
        if (n <= 0) return;  // either end is the end of both
        passed[from] += static_cast<size_t>(n);
        Tell(from == 0 ? Way::kUp : Way::kDown, passed[from]);
        for (ssize_t done = 0; done < n;) {
          const ssize_t sent = ::send(polls[1 - from].fd, buffer.data() + done,
                                      static_cast<size_t>(n - done), MSG_NOSIGNAL);
          if (sent <= 0) return;
          done += sent;
        }
      }
    }
  }

  void Tell(Way way, size_t passed) {
    absl::AnyInvocable<void()> act;
    {
      MutexLock lock(&mu_);
      if (act_ == nullptr || way != way_ || passed < bytes_) return;
      act = std::move(act_);
      act_ = nullptr;
    }
    act();
  }

  const uint16_t server_port_;
  const Fd listener_;
  std::string host_;
  std::atomic<bool> stop_ = false;
  Mutex mu_;
  Way way_ ABSL_GUARDED_BY(mu_) = Way::kUp;
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  absl::AnyInvocable<void()> act_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;  // last: its owner is whole when it starts
};

}  // namespace kiln::integration
