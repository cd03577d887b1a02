#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <list>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/process.h"

namespace kiln::daemon {

// Serves the repositories of a directory over git's own protocol, one git process a connection.
class GitServer {
 public:
  explicit GitServer(std::string base)
      : base_(std::move(base)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
      std::abort();
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~GitServer() {
    stop_ = true;
    thread_.join();
  }
  std::string Remote(const std::string& repo) const {
    return absl::StrCat("git://127.0.0.1:", port_, "/", repo);
  }
  int connections() const { return connections_; }

 private:
  void Serve() {
    std::list<Process> running;  // killed at the end, should one hang
    while (!stop_) {
      pollfd poll = {listener_.get(), POLLIN, 0};
      if (::poll(&poll, 1, 20) <= 0) continue;
      const Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd.valid()) continue;
      ++connections_;
      ProcessOptions options;
      options.args = {
          "git", "daemon", "--inetd", "--export-all", absl::StrCat("--base-path=", base_), base_};
      options.stdin_fd = options.stdout_fd = fd.get();
      absl::StatusOr<Process> process = Process::Start(options);
      if (process.ok()) running.push_back(*std::move(process));
    }
  }

  const std::string base_;
  const Fd listener_;
  int port_ = 0;
  std::atomic<int> connections_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace kiln::daemon
