#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/digest.h"
#include "store/base/fd.h"

namespace kiln::client {

// A container engine on a unix socket, one request after the other.
class FakeEngine {
 public:
  struct Request {
    std::string line;  // "GET /info"
    std::string head;  // all of it, with headers
    std::string body;
  };
  // Gives the whole answer; "" closes the connection without one. Called on the engine's thread.
  using Handler = std::function<std::string(const Request&)>;

  FakeEngine(const std::string& path, Handler handler) : handler_(std::move(handler)) {
    listener_ = Socket();
    sockaddr_un address = Address(path);
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_.get(), 4), 0);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FakeEngine() {
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  static std::string Answer(int status, const std::string& body) {
    return absl::StrCat("HTTP/1.1 ", status,
                        " S\r\nConnection: close\r\nContent-Length: ", body.size(), "\r\n\r\n",
                        body);
  }
  // Sends a request to the engine at `path` and gives what comes until it hangs up.
  static std::string Ask(const std::string& path, const Request& request) {
    const Fd fd = Socket();
    sockaddr_un address = Address(path);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const std::string text = absl::StrCat(
        request.line, " HTTP/1.0\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: ",
        request.body.size(), "\r\n\r\n", request.body);
    EXPECT_TRUE(WriteAll(fd.get(), text).ok());
    std::string answer;
    char buffer[4096];
    for (ssize_t n; (n = read(fd.get(), buffer, sizeof(buffer))) > 0;)
      answer.append(buffer, static_cast<size_t>(n));
    return answer;
  }

 private:
  static Fd Socket() { return Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
  static sockaddr_un Address(const std::string& path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    return address;
  }

  void Serve() {
    while (true) {
      const Fd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!peer.valid()) return;
      HandleOne(peer.get());
    }
  }
  void HandleOne(int peer) {
    std::string in;
    char buffer[4096];
    size_t end;
    while ((end = in.find("\r\n\r\n")) == std::string::npos) {
      const ssize_t n = read(peer, buffer, sizeof(buffer));
      if (n <= 0) return;  // somebody only looked whether anyone is here
      in.append(buffer, static_cast<size_t>(n));
    }
    Request request;
    request.head = in.substr(0, end + 2);
    request.body = in.substr(end + 4);
    request.line = in.substr(0, in.find(" HTTP/"));
    size_t length = 0;
    const size_t header = request.head.find("Content-Length: ");
    if (header != std::string::npos) {
      const size_t digits = header + 16;
      EXPECT_TRUE(absl::SimpleAtoi(
          request.head.substr(digits, request.head.find('\r', digits) - digits), &length));
    }
    if (request.head.find("Expect: 100-continue") != std::string::npos) {
      EXPECT_TRUE(WriteAll(peer, "HTTP/1.1 100 Continue\r\n\r\n").ok());
    }
    while (request.body.size() < length) {
      const ssize_t n = read(peer, buffer, sizeof(buffer));
      if (n <= 0) return;
      request.body.append(buffer, static_cast<size_t>(n));
    }
    const std::string answer = handler_(request);
    if (!answer.empty()) {
      EXPECT_TRUE(WriteAll(peer, answer).ok());
    }
  }

  const Handler handler_;
  Fd listener_;
  std::thread thread_;
};

// What a real engine answered. Requests must be the recorded ones, in their order. With
// KILN_RECORD_ENGINE set to the socket of an engine the exchanges with it are written down instead,
// of the answers only what is read of them.
class RecordedEngine {
 public:
  RecordedEngine(std::string file, const std::string& socket) : file_(std::move(file)) {
    const char* real = std::getenv("KILN_RECORD_ENGINE");
    if (real != nullptr) {
      real_ = real;
      exchanges_ = nlohmann::json::array();
    } else {
      std::ifstream in(file_);
      exchanges_ = nlohmann::json::parse(in, nullptr, false);
      EXPECT_TRUE(exchanges_.is_array()) << file_;
    }
    engine_.emplace(socket, [this](const FakeEngine::Request& r) { return Answer(r); });
  }
  ~RecordedEngine() {
    engine_.reset();
    if (!real_.empty())
      std::ofstream(file_) << exchanges_.dump(1) << "\n";
    else
      EXPECT_EQ(next_, exchanges_.size()) << "not all was asked for";
  }

 private:
  static nlohmann::json Trimmed(const nlohmann::json& json) {
    static const std::set<std::string> read = {
        "Driver", "DriverStatus", "Id",    "Created", "RepoTags",    "RootFS",
        "stream", "message",      "cause", "error",   "errorDetail", "response"};
    if (json.is_array()) {
      nlohmann::json out = nlohmann::json::array();
      for (const nlohmann::json& item : json) out.push_back(Trimmed(item));
      return out;
    }
    nlohmann::json out = nlohmann::json::object();
    for (const auto& [key, value] : json.items())
      if (read.count(key) != 0) out[key] = value;
    return out;
  }

  std::string Answer(const FakeEngine::Request& request) {
    const nlohmann::json sent = {{"request", request.line},
                                 {"body_bytes", request.body.size()},
                                 {"body_sha256", Digest::Of(request.body).hex()}};
    if (real_.empty()) {
      if (next_ >= exchanges_.size()) {
        ADD_FAILURE() << "one request too many: " << sent.dump();
        return "";
      }
      const nlohmann::json& exchange = exchanges_[next_++];
      for (const auto& [key, value] : sent.items()) EXPECT_EQ(value, exchange[key]) << next_;
      return FakeEngine::Answer(exchange["status"], exchange["answer"].dump());
    }
    const std::string answer = FakeEngine::Ask(real_, request);
    nlohmann::json exchange = sent;
    int status = 0;
    EXPECT_TRUE(absl::SimpleAtoi(answer.substr(9, 3), &status));
    exchange["status"] = status;
    exchange["answer"] =
        Trimmed(nlohmann::json::parse(answer.substr(answer.find("\r\n\r\n") + 4), nullptr, false));
    exchanges_.push_back(exchange);
    return FakeEngine::Answer(status, exchange["answer"].dump());
  }

  const std::string file_;
  std::string real_;  // "": replay
  nlohmann::json exchanges_;
  size_t next_ = 0;
  std::optional<FakeEngine> engine_;
};

}  // namespace kiln::client
