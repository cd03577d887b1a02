#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "tests/daemon/source/test_http_server.h"

namespace kiln::daemon {

// Stands in for a foreign server, as the http proxy of this process: requests must be the recorded
// ones, byte for byte and in their order, and get the recorded answers. With KILN_RECORD set to
// the port of the real server on loopback the exchanges with it are written down instead. Host
// names are free, as nothing is looked up; times are those of the recording.
class RecordedServer {
 public:
  explicit RecordedServer(std::string file)
      : file_(std::move(file)), server_([this](const TestHttpRequest& r) { return Answer(r); }) {
    setenv("http_proxy", server_.Url("").c_str(), 1);
    if (const char* port = std::getenv("KILN_RECORD"); port != nullptr) {
      EXPECT_TRUE(absl::SimpleAtoi(port, &record_port_));
      json_ = {{"time", absl::FormatTime(absl::Now())}, {"exchanges", nlohmann::json::array()}};
    } else {
      std::ifstream in(file_);
      EXPECT_TRUE(in.good()) << file_;
      json_ = nlohmann::json::parse(in, nullptr, false);
      EXPECT_TRUE(json_.is_object()) << file_;
    }
    std::string error;
    EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, json_.value("time", ""), &time_, &error));
  }
  ~RecordedServer() {
    server_.Stop();
    unsetenv("http_proxy");
    if (record_port_ != 0)
      std::ofstream(file_) << json_.dump(1) << "\n";
    else
      EXPECT_EQ(next_, json_["exchanges"].size()) << "not all was asked for";
  }

  // When it was recorded.
  absl::Time time() const { return time_; }
  // Breaks the connection after that many bytes of the next answer's body.
  void CutNext(size_t body_bytes) {
    MutexLock lock(&mu_);
    cut_ = body_bytes;
  }

 private:
  std::string Answer(const TestHttpRequest& request) {
    // These depend on the client's library and on the proxy, not on us. Nor was the recorded server
    // asked whether it expects a body: "expect" is answered here and goes no further.
    nlohmann::json headers = nlohmann::json::object();
    for (const auto& [name, value] : request.headers)
      if (!absl::StartsWith(name, "proxy-") && name != "user-agent" && name != "expect")
        headers[name] = value;
    const nlohmann::json sent = {{"method", request.method},
                                 {"url", request.path},
                                 {"headers", headers},
                                 {"body", request.body}};
    MutexLock lock(&mu_);
    const size_t cut = std::exchange(cut_, std::string::npos);
    if (record_port_ == 0) {
      if (next_ >= json_["exchanges"].size()) {
        ADD_FAILURE() << "one request too many: " << sent.dump();
        return TestHttpServer::Answer("500 Too Many");
      }
      nlohmann::json& exchange = json_["exchanges"][next_++];
      exchange["request"]["headers"].erase("expect");
      EXPECT_EQ(sent.dump(1), exchange["request"].dump(1)) << "request " << next_;
      return exchange["answer"].get<std::string>();
    }
    std::string answer = Forward(request);
    if (cut != std::string::npos) answer.resize(answer.find("\r\n\r\n") + 4 + cut);
    json_["exchanges"].push_back({{"request", sent}, {"answer", answer}});
    return answer;
  }

  std::string Forward(const TestHttpRequest& request) const {
    const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(record_port_));
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      return TestHttpServer::Answer("502 No Server");
    const std::string path = request.path.substr(request.path.find('/', sizeof("http://") - 1));
    std::string text =
        absl::StrCat(request.method, " ", path, " HTTP/1.1\r\nConnection: close\r\n");
    for (const auto& [name, value] : request.headers)
      if (!absl::StartsWith(name, "proxy-") && name != "expect")
        absl::StrAppend(&text, name, ": ", value, "\r\n");
    absl::StrAppend(&text, "\r\n", request.body);
    EXPECT_TRUE(WriteAll(fd.get(), text).ok());
    std::string answer;
    char buffer[4096];
    for (ssize_t n; (n = ::read(fd.get(), buffer, sizeof buffer)) > 0;)
      answer.append(buffer, static_cast<size_t>(n));
    return answer;
  }

  const std::string file_;
  int record_port_ = 0;  // 0: replay
  absl::Time time_;
  Mutex mu_;
  nlohmann::json json_ ABSL_GUARDED_BY(mu_);
  size_t next_ ABSL_GUARDED_BY(mu_) = 0;
  size_t cut_ ABSL_GUARDED_BY(mu_) = std::string::npos;
  TestHttpServer server_;  // last: gone first
};

}  // namespace kiln::daemon
