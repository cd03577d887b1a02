#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <list>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "tests/daemon/source/loopback_listener.h"

namespace kiln::daemon {

// Serves the repositories of a directory over git's own protocol, one git process a connection.
class GitServer {
 public:
  explicit GitServer(std::string base) : base_(std::move(base)), thread_([this] { Serve(); }) {}
  ~GitServer() {
    stop_ = true;
    thread_.join();
  }
  std::string Remote(const std::string& repo) const {
    return absl::StrCat("git://127.0.0.1:", listener_.port, "/", repo);
  }
  int connections() const { return connections_; }

 private:
  void Serve() {
    std::list<Process> running;  // killed at the end, should one hang
    while (!stop_) {
      pollfd poll = {listener_.fd.get(), POLLIN, 0};
      if (::poll(&poll, 1, 20) <= 0) continue;
      const Fd fd(::accept4(listener_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
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
  const LoopbackListener listener_;
  std::atomic<int> connections_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace kiln::daemon
