#include "client/cli/image_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "store/base/fd.h"
#include "tests/store/temp_dir.h"

namespace kiln::client {
namespace {

using testing::HasSubstr;

// An engine that takes one request and gives one answer.
class FakeEngine {
 public:
  FakeEngine(const std::string& path, std::string answer) : answer_(std::move(answer)) {
    listener_ = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FakeEngine() {
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  std::string request;  // complete once Load has returned

 private:
  void Serve() {
    const Fd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!peer.valid()) return;
    char buffer[4096];
    while (request.find("archive bytes") == std::string::npos) {
      const ssize_t got = read(peer.get(), buffer, sizeof(buffer));
      if (got <= 0) return;
      request.append(buffer, static_cast<size_t>(got));
    }
    EXPECT_TRUE(WriteAll(peer.get(), answer_).ok());
  }

  const std::string answer_;
  Fd listener_;
  std::thread thread_;
};

class ImageLoaderTest : public testing::Test {
 protected:
  void SetUp() override { setenv("DOCKER_HOST", ("unix://" + socket_).c_str(), 1); }
  void TearDown() override { unsetenv("DOCKER_HOST"); }

  absl::Status Load(const std::string& answer, std::string* request = nullptr) {
    FakeEngine engine(socket_, answer);
    auto loader = ImageLoader::Find();
    if (!loader.ok()) return loader.status();
    const ExportRequest wanted = (*loader)->Request("a:1,b");
    EXPECT_EQ(wanted.type, "docker");
    EXPECT_EQ(wanted.attrs.at("name"), "a:1,b");
    std::ofstream(wanted.target.path) << "archive bytes";
    const absl::Status status = (*loader)->Load(CancelToken());
    if (request != nullptr) *request = engine.request;
    loader->reset();
    EXPECT_NE(access(wanted.target.path.c_str(), F_OK), 0);
    return status;
  }

  store::TempDir dir_;
  const std::string socket_ = dir_.path() + "/engine.sock";
};

TEST_F(ImageLoaderTest, PostsTheArchive) {
  std::string request;
  const absl::Status status =
      Load("HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"stream\":\"loaded a:1\"}", &request);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(request, HasSubstr("POST /images/load?quiet=1 HTTP/1.1"));
  EXPECT_THAT(request, HasSubstr("application/x-tar"));
}

TEST_F(ImageLoaderTest, EnginesComplainInTwoWays) {
  EXPECT_THAT(
      Load("HTTP/1.1 500 E\r\nContent-Length: 26\r\n\r\n{\"message\":\"disk is full\"}").message(),
      HasSubstr("disk is full"));
  unlink(socket_.c_str());
  // With a good status, too: it was sent before anything went wrong.
  EXPECT_THAT(
      Load("HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"error\":\"bad archive\"}").message(),
      HasSubstr("bad archive"));
}

TEST_F(ImageLoaderTest, SaysWhatItLookedFor) {
  const auto none = ImageLoader::Find();
  EXPECT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(none.status().message(), HasSubstr(socket_));
  setenv("DOCKER_HOST", "tcp://elsewhere:2375", 1);
  EXPECT_THAT(ImageLoader::Find().status().message(), HasSubstr("tcp://elsewhere:2375"));
}

}  // namespace
}  // namespace kiln::client
