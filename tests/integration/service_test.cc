// kilnd as a service manager runs it.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "tests/integration/build_fixture.h"
#include "tests/integration/kilnd_process.h"

namespace kiln::integration {
namespace {

Fd BoundSocket(int type, const std::string& path) {
  Fd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size());
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << path;
  return fd;
}

std::string NextState(int fd) {
  char buffer[100];
  const ssize_t size = ::recv(fd, buffer, sizeof(buffer), 0);
  return size < 0 ? absl::StrCat("error ", errno) : std::string(buffer, size);
}

TEST(ServiceTest, D3_SocketActivationAndReadiness) {
  TempDir dir;
  const std::string path = dir.path() + "/k.sock";
  const Fd listening = BoundSocket(SOCK_STREAM, path);
  ASSERT_EQ(::listen(listening.get(), 16), 0);
  const Fd states = BoundSocket(SOCK_DGRAM, dir.path() + "/notify");
  const timeval limit = {60, 0};
  ASSERT_EQ(::setsockopt(states.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);

  ProcessOptions options;
  // The shell knows the process id that kilnd will have.
  options.args = {
      "/bin/sh", "-c",
      absl::StrCat("LISTEN_PID=$$ LISTEN_FDS=1 NOTIFY_SOCKET=", dir.path(),
                   "/notify exec " KILND_BINARY " --addr fd:// --root ", dir.path(), "/root")};
  options.extra_fds = {{listening.get(), 3}};
  auto daemon = Process::Start(options);
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  EXPECT_EQ(NextState(states.get()), "READY=1");

  ProcessOptions client;
  client.args = {KILN_BINARY, "--addr", "unix://" + path, "workers"};
  auto workers = Process::Start(client);
  ASSERT_TRUE(workers.ok()) << workers.status();
  const auto answered = workers->Wait(CancelToken());
  ASSERT_TRUE(answered.ok()) << answered.status();
  EXPECT_EQ(answered->code, 0);

  // Containers are not asked to be ready: the runtime knows of no service manager.
  const BusyboxBase base;
  SeenProgress seen;
  const absl::Status built = Build(
      "unix://" + path, base,
      base.state().Run(Step("look", "echo socket \"$NOTIFY_SOCKET\"; test -z \"$NOTIFY_SOCKET\"")),
      &seen);
  EXPECT_TRUE(built.ok()) << built << seen.step("look").log;

  ASSERT_TRUE(daemon->Signal(SIGTERM).ok());
  EXPECT_EQ(NextState(states.get()), "STOPPING=1");
  const auto stopped = daemon->Wait(CancelToken());
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_TRUE(stopped->ok()) << stopped->ToString();
}

class OneAtATimeTest : public BuildTest {
 protected:
  void SetUp() override {
    config_ = "max-parallelism = 1\n";
    BuildTest::SetUp();
  }
};

TEST_F(OneAtATimeTest, D5_StepsNeverOverlap) {
  std::vector<std::thread> builds;
  for (int i = 0; i < 4; ++i) {
    builds.emplace_back([this, i] {
      client::llb::RunInfo run =
          Step(absl::StrCat("step ", i),
               absl::StrCat("mkdir /c/busy && sleep 0.2 && rmdir /c/busy # ", i));
      run.mounts.push_back({.target = "/c", .cache_id = "c"});
      SeenProgress seen;
      const absl::Status status = Run(base_.state().Run(run), &seen);
      EXPECT_TRUE(status.ok()) << status << seen.step(absl::StrCat("step ", i)).log;
    });
  }
  for (std::thread& build : builds) build.join();
}

// The thread of the heap that gives free memory back to the kernel while nothing runs: without it
// what a burst of builds took would stay.
TEST(ServiceTest, TheHeapHasAThreadThatGivesBack) {
  auto daemon = KilndProcess::Start({});
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  const std::string proc = absl::StrCat("/proc/", (*daemon)->pid());
  const auto maps = ReadFileToString(proc + "/maps");
  ASSERT_TRUE(maps.ok()) << maps.status();
  if (absl::StrContains(*maps, "libasan") || absl::StrContains(*maps, "libtsan"))
    GTEST_SKIP() << "a sanitizer has a heap of its own";
  std::string names;
  for (const auto& task : std::filesystem::directory_iterator(proc + "/task"))
    names += ReadFileToString(task.path().string() + "/comm").value_or("");
  EXPECT_TRUE(absl::StrContains(names, "jemalloc_bg_thd")) << names;
}

}  // namespace
}  // namespace kiln::integration
