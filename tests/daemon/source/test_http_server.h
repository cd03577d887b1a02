#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "tests/daemon/source/loopback_listener.h"

namespace kiln::daemon {

struct TestHttpRequest {
  std::string method, path;                    // with the query
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  // "" when absent.
  std::string Header(const std::string& name) const {
    auto it = headers.find(name);
    return it == headers.end() ? "" : it->second;
  }
};

// Answers one request per connection, on a loopback port of its own, several at a time.
class TestHttpServer {
 public:
  // The whole answer, status line included. "" leaves the connection open until the server ends.
  // Called on several threads.
  using Handler = std::function<std::string(const TestHttpRequest&)>;

  // `port` 0: any.
  explicit TestHttpServer(Handler handler, uint16_t port = 0)
      : handler_(std::move(handler)), listener_(port), thread_([this] { Serve(); }) {}
  ~TestHttpServer() { Stop(); }
  // Refuses connections from now on.
  void Stop() {
    if (stop_.exchange(true)) return;
    thread_.join();
    listener_.fd.Reset();
    MutexLock lock(&mu_);
    held_.clear();
  }

  uint16_t port() const { return listener_.port; }
  std::string Url(const std::string& path, const std::string& host = "127.0.0.1") const {
    return absl::StrCat("http://", host, ":", port(), path);
  }
  std::vector<TestHttpRequest> requests() {
    MutexLock lock(&mu_);
    return requests_;
  }
  void Forget() {
    MutexLock lock(&mu_);
    requests_.clear();
  }

  static std::string Answer(const std::string& status, const std::vector<std::string>& headers = {},
                            const std::string& body = "") {
    std::string out = absl::StrCat("HTTP/1.1 ", status, "\r\nConnection: close\r\n");
    for (const std::string& header : headers) absl::StrAppend(&out, header, "\r\n");
    if (!absl::StartsWith(status, "304"))
      absl::StrAppend(&out, "Content-Length: ", body.size(), "\r\n");
    return absl::StrCat(out, "\r\n", body);
  }

 private:
  void Serve() {
    std::vector<std::thread> workers;
    while (!stop_) {
      pollfd poll = {listener_.fd.get(), POLLIN, 0};
      if (::poll(&poll, 1, 20) <= 0) continue;
      Fd fd(::accept4(listener_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd.valid()) continue;
      workers.emplace_back([this, raw = fd.Release()] { Handle(Fd(raw)); });
    }
    for (std::thread& worker : workers) worker.join();
  }

  void Handle(Fd fd) {
    std::string in;
    char buffer[4096];
    while (in.find("\r\n\r\n") == std::string::npos) {
      const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
      if (n <= 0) return;
      in.append(buffer, static_cast<size_t>(n));
      if (!absl::ascii_isalpha(static_cast<unsigned char>(in[0]))) return;  // TLS
    }
    TestHttpRequest request;
    const std::vector<std::string> lines = absl::StrSplit(in, "\r\n");
    const std::vector<std::string> first = absl::StrSplit(lines[0], ' ');
    request.method = first[0];
    request.path = first.size() > 1 ? first[1] : "";
    for (size_t i = 1; i < lines.size() && !lines[i].empty(); ++i) {
      const std::pair<std::string, std::string> header =
          absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
      request.headers[absl::AsciiStrToLower(header.first)] = header.second;
    }
    size_t length = 0;
    if (absl::SimpleAtoi(request.Header("content-length"), &length)) {
      request.body = in.substr(in.find("\r\n\r\n") + 4);
      if (request.headers.count("expect") != 0 && request.body.size() < length)
        (void)::send(fd.get(), "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
      while (request.body.size() < length) {
        const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
        if (n <= 0) return;
        request.body.append(buffer, static_cast<size_t>(n));
      }
    }
    {
      MutexLock lock(&mu_);
      requests_.push_back(request);
    }
    const std::string answer = handler_(request);
    if (answer.empty()) {
      MutexLock lock(&mu_);
      held_.push_back(std::move(fd));
      return;
    }
    absl::string_view rest = answer;
    if (request.method == "HEAD") rest = rest.substr(0, rest.find("\r\n\r\n") + 4);
    while (!rest.empty()) {
      const ssize_t n = ::send(fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      rest.remove_prefix(static_cast<size_t>(n));
    }
    ::shutdown(fd.get(), SHUT_WR);
    // Until the peer has read it all; a reset would cut the answer.
    while (::recv(fd.get(), buffer, sizeof buffer, 0) > 0) {
    }
  }

  const Handler handler_;
  LoopbackListener listener_;
  Mutex mu_;
  std::vector<Fd> held_ ABSL_GUARDED_BY(mu_);
  std::vector<TestHttpRequest> requests_ ABSL_GUARDED_BY(mu_);
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace kiln::daemon
