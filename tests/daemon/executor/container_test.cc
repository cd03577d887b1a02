// Containers of several processes, with both runtimes.
#include "daemon/executor/container.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/executor/oci_executor.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "tests/daemon/executor/scratch_rootfs.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

// A started process and our ends of its pipes.
struct Started {
  std::unique_ptr<ContainerProcess> process;
  Fd in, out;
  std::string unread = {};

  // What comes up to the end of `text`, or all; a terminal's lines end in \r\n.
  std::string ReadUntil(absl::string_view text) {
    const int fd = out.valid() ? out.get() : process->terminal();
    size_t found;
    while ((found = unread.find(std::string(text))) == std::string::npos) {
      char buffer[512];
      const ssize_t got = read(fd, buffer, sizeof(buffer));
      if (got <= 0) return std::exchange(unread, "");
      unread.append(buffer, got);
    }
    std::string taken = unread.substr(0, found + text.size());
    unread.erase(0, taken.size());
    return taken;
  }
  ExitInfo Exit() {
    auto info = process->Wait(CancelToken());
    EXPECT_TRUE(info.ok()) << info.status();
    return info.ok() ? *info : ExitInfo{-1};
  }
};

class ContainerTest : public testing::TestWithParam<const char*> {
 protected:
  ContainerTest() {
    OciExecutorOptions options;
    options.state_dir = scratch_.folder() + "/state";
    options.runtime = GetParam();
    auto executor = OciExecutor::Create(options);
    EXPECT_TRUE(executor.ok()) << executor.status();
    executor_ = *std::move(executor);
    container_ = New();
  }

  std::unique_ptr<Container> New() {
    ProcessSpec spec;
    spec.id = absl::StrCat("ctest", getpid(), "-", ++next_id_);
    spec.rootfs = scratch_.root();
    return executor_->NewContainer(std::move(spec));
  }

  Started Start(const std::string& script, bool terminal = false) {
    ProcessRequest request;
    request.args = {"/bin/sh", "-c", script};
    request.env = {"PATH=/bin"};
    request.terminal = terminal;
    Started started;
    Pipe in = *MakePipe(), out = *MakePipe();
    request.stdin_fd = in.read.get();
    request.stdout_fd = request.stderr_fd = out.write.get();
    auto process = container_->Start(request, CancelToken());
    EXPECT_TRUE(process.ok()) << process.status();
    started.process = *std::move(process);
    if (!terminal) {
      started.in = std::move(in.write);
      started.out = std::move(out.read);
    }
    return started;
  }

  // Files of the executor that belong to containers.
  size_t Left() const {
    size_t count = 0;
    for (const char* folder : {"/state/bundles", "/state/runtime"})
      for (const auto& entry : fs::directory_iterator(scratch_.folder() + folder)) {
        static_cast<void>(entry);
        ++count;
      }
    return count;
  }

  ScratchRootfs scratch_;
  std::unique_ptr<OciExecutor> executor_;
  std::unique_ptr<Container> container_;
  int next_id_ = 0;
};

TEST_P(ContainerTest, ProcessesShareOneContainer) {
  Started first = Start("echo up; cat; exit 3");
  EXPECT_EQ(first.ReadUntil("up\n"), "up\n");
  Started second = Start(
      "echo from second >/tmp-file; readlink /proc/self/ns/pid; readlink /proc/1/ns/pid;"
      "grep Seccomp: /proc/self/status; exit 5");
  const std::string told = second.ReadUntil("never");
  EXPECT_EQ(second.Exit().code, 5);
  std::vector<std::string> lines;
  std::istringstream stream(told);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 3u) << told;
  EXPECT_EQ(lines[0], lines[1]);
  EXPECT_EQ(lines[2], "Seccomp:\t2");
  EXPECT_EQ(*ReadFileToString(scratch_.Path("/tmp-file")), "from second\n");

  ASSERT_TRUE(WriteAll(first.in.get(), "through\n").ok());
  first.in.Reset();
  EXPECT_EQ(first.ReadUntil("never"), "through\n");
  EXPECT_EQ(first.Exit().code, 3);
}

TEST_P(ContainerTest, ATerminalHasASizeAndEchoes) {
  Started first;
  for (const bool joined : {false, true}) {
    SCOPED_TRACE(joined);
    Started process = Start("tty; while read a && [ $a = x ]; do stty size; done; exit 4", true);
    ASSERT_GE(process.process->terminal(), 0);
    EXPECT_THAT(process.ReadUntil("\r\n"), HasSubstr("/dev/pts/"));
    // runc passes a size on when it gets to it: ask until it has.
    for (const auto& [rows, columns] : {std::pair(31, 97), std::pair(24, 80)}) {
      ASSERT_EQ(process.process->Resize(rows, columns), absl::OkStatus());
      const std::string size = absl::StrCat(rows, " ", columns, "\r\n");
      std::string told;
      for (int i = 0; i < 10000 && !absl::StrContains(told, size); ++i) {
        ASSERT_TRUE(WriteAll(process.process->terminal(), "x\n").ok());
        EXPECT_EQ(process.ReadUntil("x\r\n"), "x\r\n");  // the echo
        told = process.ReadUntil("\r\n");
      }
      EXPECT_THAT(told, HasSubstr(size));
    }
    ASSERT_TRUE(WriteAll(process.process->terminal(), "end\n").ok());
    EXPECT_EQ(process.Exit().code, 4);
    EXPECT_EQ(process.process->Resize(70000, 1).code(), absl::StatusCode::kInvalidArgument);
    if (joined) break;
    process = Started();
    container_ = New();
    first = Start("echo up; cat");
    first.ReadUntil("up");
  }
}

TEST_P(ContainerTest, SignalsReachTheProgram) {
  Started first = Start("trap 'echo hup' HUP; echo up; while true; do sleep 0.05; done");
  first.ReadUntil("up\n");
  ASSERT_EQ(first.process->Signal(SIGHUP), absl::OkStatus());
  EXPECT_EQ(first.ReadUntil("hup\n"), "hup\n");
  Started second = Start("echo up; exec sleep 1000");
  second.ReadUntil("up\n");
  ASSERT_EQ(second.process->Signal(SIGTERM), absl::OkStatus());
  EXPECT_EQ(second.Exit().code, 128 + SIGTERM);
  EXPECT_EQ(second.process->Signal(SIGTERM), absl::OkStatus());  // ended already
  // The end of the first one is the end of all.
  Started third = Start("echo up; exec sleep 1000");
  third.ReadUntil("up\n");
  ASSERT_EQ(first.process->Signal(SIGKILL), absl::OkStatus());
  EXPECT_EQ(first.Exit().code, 128 + SIGKILL);
  EXPECT_EQ(third.Exit().code, 128 + SIGKILL);
  ProcessRequest late;
  late.args = {"/bin/true"};
  EXPECT_EQ(container_->Start(late, CancelToken()).status(),
            absl::FailedPreconditionError("the container's first process has ended"));
}

TEST_P(ContainerTest, ProgramsThatCannotBeStartedAreNamed) {
  ProcessRequest request;
  request.args = {"/no/such/program"};
  Started first = Start("echo up; cat");
  first.ReadUntil("up");
  for (const bool terminal : {false, true}) {
    request.terminal = terminal;
    auto process = container_->Start(request, CancelToken());
    ASSERT_TRUE(process.ok()) << process.status();
    auto info = (*process)->Wait(CancelToken());
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_EQ(info->code, 127);
    EXPECT_THAT(info->start_failure, HasSubstr("/no/such/program"));
  }
  request.user = "nobody-here";
  EXPECT_EQ(container_->Start(request, CancelToken()).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(ContainerTest, CancelAndDestructionLeaveNothing) {
  const size_t fds = std::distance(fs::directory_iterator("/proc/self/fd"), {});
  for (const bool terminal : {false, true}) {
    {
      Started first = Start("echo up; sleep 1000 & cat", terminal);
      first.ReadUntil("up");
      Started second = Start("echo up; sleep 1000 & exec sleep 1000", terminal);
      second.ReadUntil("up");
      CancelSource cancel;
      cancel.Cancel(absl::CancelledError("enough"));
      EXPECT_EQ(second.process->Wait(cancel.token()).status(), absl::CancelledError("enough"));
    }
    container_ = nullptr;
    EXPECT_EQ(Left(), 0u);
    container_ = New();
  }
  container_ = nullptr;  // one that was never started
  EXPECT_EQ(Left(), 0u);
  EXPECT_EQ(std::distance(fs::directory_iterator("/proc/self/fd"), {}), fds);
}

INSTANTIATE_TEST_SUITE_P(Runtime, ContainerTest, testing::Values("crun", "runc"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace kiln::daemon
