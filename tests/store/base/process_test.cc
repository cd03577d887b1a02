#include "store/base/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace kiln {
namespace {

using ::testing::HasSubstr;

ProcessOptions Shell(std::string script) {
  ProcessOptions options;
  options.args = {"/bin/sh", "-c", std::move(script)};
  return options;
}

size_t OpenFds() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    (void)entry;
    ++count;
  }
  return count;
}

bool Alive(pid_t pid) { return ::kill(pid, 0) == 0; }

TEST(ProcessTest, GivesTheExitCode) {
  auto process = Process::Start(Shell("exit 7"));
  ASSERT_TRUE(process.ok()) << process.status();
  auto status = process->Wait(CancelToken());
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->code, 7);
  EXPECT_EQ(status->signal, 0);
  EXPECT_EQ(status->ToString(), "exit status 7");
  EXPECT_FALSE(process->running());
}

TEST(ProcessTest, GivesTheSignal) {
  auto process = Process::Start(Shell("kill -TERM $$"));
  ASSERT_TRUE(process.ok());
  auto status = process->Wait(CancelToken());
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->signal, SIGTERM);
  EXPECT_EQ(status->ShellCode(), 143);
  EXPECT_EQ(status->ToString(), "signal 15 (Terminated)");
}

TEST(ProcessTest, MissingProgramIsNotFoundAndNamed) {
  ProcessOptions options;
  options.args = {"/no/such/program"};
  auto process = Process::Start(options);
  EXPECT_EQ(process.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(process.status().message()), HasSubstr("/no/such/program"));
}

TEST(ProcessTest, EnvironmentAndDirectoryAreExact) {
  ProcessOptions options = Shell("pwd; env");
  options.env = std::vector<std::string>{"A=1"};
  options.cwd = "/usr";
  auto out = RunCommandForOutput(options, CancelToken());
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_TRUE(absl::StartsWith(*out, "/usr\n")) << *out;
  EXPECT_THAT(*out, HasSubstr("A=1\n"));
  EXPECT_EQ(out->find("PATH="), std::string::npos) << *out;
}

TEST(ProcessTest, ChildHasOnlyTheNamedDescriptors) {
  auto fd = OpenFile("/etc/hostname", O_RDONLY);
  ASSERT_TRUE(fd.ok());
  const int leaked = ::dup(fd->get());  // not close-on-exec, as a careless library would do
  ASSERT_GE(leaked, 0);
  ProcessOptions options = Shell("exec ls /proc/self/fd");
  options.extra_fds = {{fd->get(), 3}};
  auto out = RunCommandForOutput(options, CancelToken());
  ::close(leaked);
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(*out, "0\n1\n2\n3\n4\n");  // 4 is what ls itself lists through
}

TEST(ProcessTest, DescriptorsMayCrossOver) {
  auto a = MakePipe();
  auto b = MakePipe();
  ASSERT_TRUE(a.ok() && b.ok());
  // Each one's number is the other's target.
  ProcessOptions options =
      Shell(absl::StrCat("echo for-a >&", b->write.get(), "; echo for-b >&", a->write.get()));
  if (a->write.get() > 9 || b->write.get() > 9) GTEST_SKIP() << "dash takes one digit";
  options.extra_fds = {{a->write.get(), b->write.get()}, {b->write.get(), a->write.get()}};
  auto process = Process::Start(options);
  ASSERT_TRUE(process.ok()) << process.status();
  a->write.Reset();
  b->write.Reset();
  EXPECT_EQ(*ReadAll(a->read.get()), "for-a\n");
  EXPECT_EQ(*ReadAll(b->read.get()), "for-b\n");
  EXPECT_TRUE(process->Wait(CancelToken())->ok());
}

TEST(ProcessTest, CancelKillsTheGroupAndReturnsTheCause) {
  auto pipe = MakePipe();
  ASSERT_TRUE(pipe.ok());
  ProcessOptions options = Shell("trap '' TERM INT HUP; sleep 1000 & echo $!; wait");
  options.stdout_fd = pipe->write.get();
  auto process = Process::Start(options);
  ASSERT_TRUE(process.ok());
  pipe->write.Reset();
  char line[32] = {};
  ASSERT_GT(::read(pipe->read.get(), line, sizeof line - 1), 0);  // the child runs
  int sleeper = 0;
  ASSERT_TRUE(absl::SimpleAtoi(line, &sleeper));
  CancelSource source;
  std::thread canceller([&] { source.Cancel(absl::DeadlineExceededError("too late")); });
  auto status = process->Wait(source.token());
  canceller.join();
  EXPECT_EQ(status.status(), absl::DeadlineExceededError("too late"));
  EXPECT_FALSE(process->running());
  // The pipe's end tells that the sleeper, too, is gone.
  EXPECT_EQ(::read(pipe->read.get(), line, sizeof line), 0);
}

TEST(ProcessTest, DestructorKillsAndReaps) {
  pid_t pid = 0;
  {
    auto process = Process::Start(Shell("trap '' TERM; while :; do :; done"));
    ASSERT_TRUE(process.ok());
    pid = process->pid();
    EXPECT_TRUE(Alive(pid));
  }
  EXPECT_FALSE(Alive(pid));
}

TEST(ProcessTest, GroupDoesNotOutliveItsLeader) {
  auto pipe = MakePipe();
  ASSERT_TRUE(pipe.ok());
  ProcessOptions options = Shell("sleep 1000 & exit 0");
  options.stdout_fd = pipe->write.get();
  auto process = Process::Start(options);
  ASSERT_TRUE(process.ok());
  pipe->write.Reset();
  EXPECT_TRUE(process->Wait(CancelToken())->ok());
  char byte;
  EXPECT_EQ(::read(pipe->read.get(), &byte, 1), 0);
}

TEST(RunCommandTest, TakesBothStreamsWhole) {
  auto out = RunCommand(
      Shell("i=0; while [ $i -lt 2000 ]; do echo 0123456789012345678901234567890123456789; "
            "echo e >&2; i=$((i+1)); done; exit 3"),
      CancelToken());
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(out->status.code, 3);
  EXPECT_EQ(out->out.size(), 2000u * 41);
  EXPECT_EQ(out->err.size(), 4000u);
}

TEST(RunCommandTest, StopsAtTheLimitAndKeepsTheTailOfErrors) {
  CaptureLimits limits;
  limits.stdout_bytes = 1000;
  auto out = RunCommand(Shell("yes"), CancelToken(), limits);
  EXPECT_EQ(out.status().code(), absl::StatusCode::kResourceExhausted);

  limits.stderr_bytes = 10;
  auto err = RunCommand(Shell("for i in 1 2 3 4 5 6 7 8 9; do echo line$i >&2; done"),
                        CancelToken(), limits);
  ASSERT_TRUE(err.ok());
  EXPECT_EQ(err->err, "ne8\nline9\n");
}

TEST(RunCommandTest, FailureCarriesTheErrorText) {
  auto out = RunCommandForOutput(Shell("echo no such branch >&2; exit 128"), CancelToken());
  EXPECT_THAT(std::string(out.status().message()), HasSubstr("exit status 128: no such branch"));
}

TEST(RunCommandTest, EscapedDescendantDoesNotDelay) {
  // setsid leaves the group; only the pipe ties it to us.
  auto out = RunCommand(Shell("setsid sleep 1000 & echo $!"), CancelToken());
  ASSERT_TRUE(out.ok());
  int pid = 0;
  ASSERT_TRUE(absl::SimpleAtoi(out->out, &pid)) << out->out;
  ::kill(pid, SIGKILL);
}

TEST(RunCommandTest, CancelEndsIt) {
  CancelSource source;
  source.Cancel();
  auto out = RunCommand(Shell("sleep 1000"), source.token());
  EXPECT_EQ(out.status().code(), absl::StatusCode::kCancelled);
}

TEST(RunCommandTest, NothingIsLeftOpen) {
  (void)RunCommand(Shell("true"), CancelToken());
  const size_t before = OpenFds();
  for (int i = 0; i < 5; ++i) {
    (void)RunCommand(Shell("exit 1"), CancelToken());
    ProcessOptions missing;
    missing.args = {"/no/such/program"};
    (void)RunCommand(missing, CancelToken());
  }
  EXPECT_EQ(OpenFds(), before);
}

}  // namespace
}  // namespace kiln
