#include "daemon/executor/oci_executor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "store/base/fd.h"
#include "store/base/mutex.h"
#include "store/base/process.h"
#include "tests/daemon/executor/oci_executor_fixture.h"

namespace kiln::daemon {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;
namespace fs = std::filesystem;

std::vector<std::string> Lines(absl::string_view text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

TEST_F(OciExecutorTest, GivesOutputAndExitCode) {
  const Outcome outcome = Run(Shell("echo hello; echo oops >&2; exit 3"));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.exit->code, 3);
  EXPECT_FALSE(outcome.exit->oom_killed);
  EXPECT_EQ(outcome.out, "hello\n");
  EXPECT_EQ(outcome.err, "oops\n");
}

TEST_F(OciExecutorTest, SuccessIsZero) {
  const Outcome outcome = Run(Spec({"/bin/true"}));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.exit->code, 0);
  EXPECT_EQ(outcome.err, "");
}

TEST_F(OciExecutorTest, MissingProgramIs127AndNamed) {
  const Outcome outcome = Run(Spec({"/no/such/program"}));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.exit->code, 127);
  EXPECT_THAT(outcome.err, HasSubstr("/no/such/program"));
  EXPECT_THAT(Lines(outcome.err), SizeIs(1)) << "told once";
}

TEST_F(OciExecutorTest, WhatTheKernelCannotRunIsToldInPlainText) {
  scratch_.Write("/program",
                 "\x7f"
                 "ELF of no machine");
  fs::permissions(scratch_.Path("/program"), fs::perms::all);
  const Outcome outcome = Run(Spec({"/program"}));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_NE(outcome.exit->code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("xec format error"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("{")));
}

TEST_F(OciExecutorTest, NotExecutableIs126) {
  scratch_.Write("/file", "data");
  const Outcome outcome = Run(Spec({"/file"}));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.exit->code, 126) << outcome.err;
}

TEST_F(OciExecutorTest, DeathBySignalIs128AndMore) {
  const Outcome outcome = Run(Shell("sh -c 'kill -9 $$'; exit $?"));
  ASSERT_TRUE(outcome.exit.ok());
  EXPECT_EQ(outcome.exit->code, 137);
  EXPECT_FALSE(outcome.exit->oom_killed);
}

TEST_F(OciExecutorTest, OutputIsWhole) {
  const Outcome outcome = Run(Shell("dd if=/dev/zero bs=1M count=48 2>/dev/null; echo -n end >&2"));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.out.size(), size_t{48} << 20);
  EXPECT_EQ(outcome.err, "end");
}

TEST_F(OciExecutorTest, UserAndGroupsComeFromTheRoot) {
  scratch_.Write("/etc/passwd", "root:x:0:0::/:/bin/sh\nbob:x:1000:1001::/:/bin/sh\n");
  scratch_.Write("/etc/group", "root:x:0:\nbobs:x:1001:\nwheel:x:10:bob,other\n");
  struct Case {
    const char *user, *want;
  };
  for (const Case& c : std::initializer_list<Case>{{"", "0 0 0"},
                                                   {"bob", "1000 1001 1001 10"},
                                                   {"1000", "1000 1001 1001 10"},
                                                   {"bob:wheel", "1000 10 10"},
                                                   {"5:6", "5 6 6"},
                                                   {"77", "77 0 0"},
                                                   {"root", "0 0 0"}}) {
    ProcessSpec spec = Shell("echo $(id -u) $(id -g) $(id -G)");
    spec.user = c.user;
    const Outcome outcome = Run(spec);
    ASSERT_TRUE(outcome.exit.ok()) << c.user << ": " << outcome.exit.status();
    EXPECT_EQ(outcome.out, absl::StrCat(c.want, "\n")) << c.user;
  }
  ProcessSpec spec = Shell("true");
  spec.user = "nobody-here";
  const Outcome outcome = Run(spec);
  EXPECT_EQ(outcome.exit.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(outcome.exit.status().message()), HasSubstr("nobody-here"));
}

// A root file system is whatever an image's author put there.
TEST_F(OciExecutorTest, HostilePasswdNeitherHangsNorLeadsOut) {
  fs::create_directories(scratch_.Path("/etc"));
  ASSERT_EQ(::mkfifo(scratch_.Path("/etc/passwd").c_str(), 0666), 0);
  ProcessSpec spec = Shell("true");
  spec.user = "bob";
  EXPECT_EQ(Run(spec).exit.status().code(), absl::StatusCode::kNotFound);
  spec = Shell("echo $HOME; grep ^Uid: /proc/self/status");  // id would read the
                                                             // fifo itself
  spec.user = "1234";
  EXPECT_EQ(Run(spec).out, "/\nUid:\t1234\t1234\t1234\t1234\n");

  fs::remove(scratch_.Path("/etc/passwd"));
  std::ofstream(scratch_.folder() + "/outside") << "bob:x:4711:4711::/:/bin/sh\n";
  fs::create_symlink(scratch_.folder() + "/outside", scratch_.Path("/etc/passwd"));
  spec.user = "bob";
  EXPECT_EQ(Run(spec).exit.status().code(), absl::StatusCode::kNotFound);
}

TEST_F(OciExecutorTest, WorkingDirectoryIsMadeForTheUser) {
  ProcessSpec spec = Shell("pwd; touch mine; stat -c %u:%g:%a . ..");
  spec.user = "12:34";
  spec.cwd = "/made/for/me";
  const Outcome outcome = Run(spec);
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.out, "/made/for/me\n12:34:755\n12:34:755\n") << outcome.err;
}

TEST_F(OciExecutorTest, WorkingDirectoryStaysInTheRoot) {
  fs::create_symlink("../../../../" + scratch_.folder(), scratch_.Path("/link"));
  ProcessSpec spec = Shell("pwd");
  spec.cwd = "/link/escaped";
  const Outcome outcome = Run(spec);
  EXPECT_FALSE(fs::exists(scratch_.folder() + "/escaped"));
  EXPECT_TRUE(fs::exists(scratch_.Path(scratch_.folder() + "/escaped")));
}

TEST_F(OciExecutorTest, NamesAndHostFiles) {
  ProcessSpec spec = Shell("hostname; cat /etc/hosts; echo x >/etc/hosts || echo read-only");
  spec.extra_hosts = {{"db", "10.1.2.3"}, {"six", "fd00::1"}};
  Outcome outcome = Run(spec);
  EXPECT_THAT(outcome.out, HasSubstr("buildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n"
                                     "::1\tlocalhost ip6-localhost ip6-loopback\n"
                                     "10.1.2.3\tdb\nfd00::1\tsix\nread-only\n"));
  spec = Shell(
      "hostname; grep -c mine /etc/hosts; grep -c nameserver "
      "/etc/resolv.conf >/dev/null");
  spec.hostname = "mine";
  outcome = Run(spec);
  ASSERT_TRUE(outcome.exit.ok());
  EXPECT_EQ(outcome.exit->code, 0);
  EXPECT_EQ(outcome.out, "mine\n1\n");
  spec.extra_hosts = {{"x", "not-an-ip"}};
  EXPECT_EQ(Run(spec).exit.status().message(), "failed to parse IP not-an-ip");
}

TEST_F(OciExecutorTest, LastOfEqualVariablesCounts) {
  ProcessSpec spec = Shell("env");
  spec.env = {"PATH=/bin", "A=1", "junk", "A=2"};
  const Outcome outcome = Run(spec);
  EXPECT_THAT(outcome.out, HasSubstr("A=2\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("A=1")));
  EXPECT_THAT(outcome.out, Not(HasSubstr("junk")));
}

TEST_F(OciExecutorTest, TextThatCannotBePassedIsRefused) {
  EXPECT_EQ(Run(Spec({"/bin/echo", std::string("a\0b", 3)})).exit.status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Run(Spec({"/bin/echo", "\xff\xfe"})).exit.status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Run(Spec({})).exit.status().code(), absl::StatusCode::kInvalidArgument);
  ProcessSpec spec = Shell("true");
  spec.id = "../escape";
  EXPECT_EQ(Run(spec).exit.status().code(), absl::StatusCode::kInvalidArgument);
}

std::string HostNetwork() { return fs::read_symlink("/proc/self/ns/net").string(); }

TEST_F(OciExecutorTest, NetworkModes) {
  ProcessSpec spec = Shell("readlink /proc/self/ns/net; ls /sys/class/net; cat /proc/net/dev");
  fs::create_symlink("busybox", scratch_.Path("/bin/readlink"));
  spec.network = NetworkMode::kHost;
  EXPECT_THAT(Run(spec).out, HasSubstr(HostNetwork()));
  spec = Shell(
      "readlink /proc/self/ns/net; ip -o link | grep -c . ; ip -o "
      "link | grep -c 'lo:.*UP'");
  spec.network = NetworkMode::kNone;
  const Outcome none = Run(spec);
  EXPECT_THAT(none.out, Not(HasSubstr(HostNetwork())));
  EXPECT_TRUE(absl::EndsWith(none.out, "\n1\n1\n")) << none.out << none.err;
}

std::string Field(const std::string& text, const std::string& name) {
  for (absl::string_view line : absl::StrSplit(text, '\n'))
    if (absl::ConsumePrefix(&line, name)) return std::string(absl::StripAsciiWhitespace(line));
  return "";
}

TEST_F(OciExecutorTest, SandboxConfines) {
  ProcessSpec spec = Shell(
      "cat /proc/self/status; cat /proc/kcore | wc -c; echo 1 "
      ">/proc/sys/kernel/domainname;"
      "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x;"
      "mount -t tmpfs t /tmp; unshare -m true; unshare -U true;"
      "mknod /tmp/disk b 1 0 && cat /tmp/disk; mknod /tmp/mem c 1 1 && "
      "cat /tmp/mem; true");
  const Outcome outcome = Run(spec);
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(Field(outcome.out, "Seccomp:"), "2");
  EXPECT_EQ(Field(outcome.out, "NoNewPrivs:"), "0");
  for (const char* set : {"CapPrm:", "CapEff:", "CapBnd:"})
    EXPECT_EQ(Field(outcome.out, set), "00000000a80425fb") << set;
  EXPECT_TRUE(absl::EndsWith(outcome.out, "\n0\n")) << outcome.out;
  for (const char* refused :
       {"domainname: Read-only file system", "x': Read-only file system",
        "mount: ", "unshare: ", "can't open '/tmp/disk': Operation not permitted",
        "can't open '/tmp/mem': Operation not permitted"})
    EXPECT_THAT(outcome.err, HasSubstr(refused));
}

TEST_F(OciExecutorTest, SeccompAllowsToolsAndHidesClone3) {
  // The program's own view: unshare fails with EPERM although root runs it.
  const Outcome outcome = Run(Shell("unshare -n true; echo $?; setsid true; echo $?"));
  EXPECT_EQ(outcome.out, "1\n0\n") << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("Operation not permitted"));
}

TEST_F(OciExecutorTest, InsecureOpensUp) {
  ProcessSpec spec = Shell(
      "cat /proc/self/status; mount -t tmpfs t /tmp && "
      "echo mounted; mkdir /sys/fs/cgroup/*/x "
      "2>/dev/null; ls /dev/kmsg");
  spec.security = SecurityMode::kInsecure;
  const Outcome outcome = Run(spec);
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(Field(outcome.out, "Seccomp:"), "0");
  const std::string own = *ReadFileToString("/proc/self/status");
  EXPECT_EQ(Field(outcome.out, "CapEff:"), Field(own, "CapEff:"));
  EXPECT_THAT(outcome.out, HasSubstr("mounted\n"));
}

TEST_F(OciExecutorTest, Ulimits) {
  ProcessSpec spec = Shell("ulimit -n; ulimit -Hn");
  spec.ulimits = {{"nofile", 123, 456}};
  EXPECT_EQ(Run(spec).out, "123\n456\n");
  spec.ulimits = {{"nosuch", 1, 1}};
  EXPECT_EQ(Run(spec).exit.status().message(), "invalid ulimit name nosuch");
}

// What there is of things that a step could leave behind, of this test alone: others run beside it.
struct Census {
  size_t fds = 0, mounts = 0, cgroups = 0, children = 0, files = 0;
  bool operator==(const Census&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Census& c) {
  return out << "fds " << c.fds << " mounts " << c.mounts << " cgroups " << c.cgroups
             << " children " << c.children << " files " << c.files;
}

size_t CountEntries(const std::string& dir, bool recursive) {
  size_t n = 0;
  std::error_code error;
  if (recursive)
    for (auto it = fs::recursive_directory_iterator(dir, error);
         it != fs::recursive_directory_iterator(); it.increment(error))
      ++n;
  else
    for (auto it = fs::directory_iterator(dir, error); it != fs::directory_iterator(); ++it) ++n;
  return n;
}

// `state_dir`: the executor's.
Census Count(const std::string& state_dir) {
  Census census;
  census.fds = CountEntries("/proc/self/fd", false);
  for (absl::string_view line : absl::StrSplit(*ReadFileToString("/proc/self/mountinfo"), '\n'))
    census.mounts += absl::StrContains(line, fs::path(state_dir).parent_path().string());
  for (const CgroupLayout::Hierarchy& one : CgroupLayout::Detect().hierarchies) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(one.mount_point + "/buildkit", error))
      census.cgroups += absl::StrContains(entry.path().string(), StepPrefix());
  }
  for (const auto& thread : fs::directory_iterator("/proc/self/task")) {
    const std::string children = ReadFileToString(thread.path() / "children").value_or("");
    census.children += std::count(children.begin(), children.end(), ' ');
  }
  census.files = CountEntries(state_dir + "/bundles", true) +
                 CountEntries(state_dir + "/runtime", true) +
                 CountEntries(state_dir + "/networks", true) +
                 CountEntries(state_dir + "/networks-results", true);
  return census;
}

// Pids of processes that run `needle` anywhere on the machine.
std::set<int> Running(const std::string& needle) {
  std::set<int> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    const std::string line = ReadFileToString(entry.path().string() + "/cmdline").value_or("");
    if (absl::StrContains(line, needle)) out.insert(pid);
  }
  return out;
}

class OciExecutorLeakTest : public OciExecutorTest {
 protected:
  // A number that no other process's contains.
  std::string Marker() { return absl::StrFormat("1%08d%04d", ::getpid(), next_id_); }
};

TEST_F(OciExecutorLeakTest, NothingIsLeftWhateverTheOutcome) {
  ASSERT_TRUE(Run(Shell("true")).exit.ok());  // makes what is made once
  const std::string state = scratch_.folder() + "/state";
  const Census before = Count(state);
  for (int i = 0; i < 3; ++i) {
    const std::string marker = Marker();
    EXPECT_TRUE(Run(Shell("true")).exit.ok());
    EXPECT_TRUE(Run(Shell("exit 1")).exit.ok());
    EXPECT_TRUE(Run(Spec({"/no/such"})).exit.ok());
    EXPECT_TRUE(Run(Shell(absl::StrCat("setsid sleep ", marker, " & sleep ", marker, "& exit 0")))
                    .exit.ok());
    ProcessSpec bad = Shell("true");
    bad.mounts = {{"/m", "/no/such/source", "bind", {}}};
    EXPECT_FALSE(Run(bad).exit.ok());
    bad = Shell("true");
    bad.user = "nobody-here";
    EXPECT_FALSE(Run(bad).exit.ok());
    ProcessSpec none = Shell("true");
    none.network = NetworkMode::kNone;
    none.resources = LinuxResources{.memory_bytes = 64 << 20};
    EXPECT_TRUE(Run(none).exit.ok());
    EXPECT_TRUE(Running(marker).empty());
  }
  EXPECT_EQ(Count(state), before);
}

TEST_F(OciExecutorLeakTest, CancelLeavesNothing) {
  ASSERT_TRUE(Run(Shell("true")).exit.ok());
  const std::string state = scratch_.folder() + "/state";
  const Census before = Count(state);
  const std::string marker = Marker();
  // From before the container exists to when it has long been running.
  for (int delay_ms : {0, 1, 2, 4, 6, 8, 10, 12, 15, 20, 30, 60, 150}) {
    CancelSource source;
    std::thread canceller([&] {
      absl::SleepFor(absl::Milliseconds(delay_ms));
      source.Cancel(absl::DeadlineExceededError("enough"));
    });
    ProcessSpec spec = Shell(
        absl::StrCat("trap '' TERM INT HUP QUIT; setsid sleep ", marker, " & while :; do :; done"));
    if (delay_ms % 4 == 0) spec.resources = LinuxResources{.memory_bytes = 64 << 20};
    const Outcome outcome = Run(spec, source.token());
    canceller.join();
    EXPECT_EQ(outcome.exit.status(), absl::DeadlineExceededError("enough")) << delay_ms;
    EXPECT_TRUE(Running(marker).empty()) << delay_ms;
  }
  EXPECT_EQ(Count(state), before);
}

TEST_F(OciExecutorTest, CancelledBeforehandDoesNotStart) {
  CancelSource source;
  source.Cancel();
  EXPECT_EQ(Run(Shell("echo ran"), source.token()).exit.status().code(),
            absl::StatusCode::kCancelled);
}

TEST_F(OciExecutorTest, Llb6_94_OutOfMemoryIsTold) {
  ProcessSpec spec = Shell("tail /dev/zero; exit 9");
  spec.resources = LinuxResources{.memory_bytes = 32 << 20, .memory_swap_bytes = 32 << 20};
  const Outcome outcome = Run(spec);
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_NE(outcome.exit->code, 0);
  EXPECT_TRUE(outcome.exit->oom_killed);
  // The next one, within the same limit, is not blamed.
  spec = Shell("exit 137");
  spec.resources = LinuxResources{.memory_bytes = 32 << 20};
  EXPECT_FALSE(Run(spec).exit->oom_killed);
}

TEST_F(OciExecutorTest, CpuLimitsApply) {
  const CgroupLayout layout = CgroupLayout::Detect();
  ProcessSpec spec = layout.unified ? Shell("cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpuset.cpus")
                                    : Shell(
                                          "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us "
                                          "/sys/fs/cgroup/cpu/cpu.shares "
                                          "/sys/fs/cgroup/cpuset/cpuset.cpus");
  spec.resources = LinuxResources{
      .cpu_shares = 512, .cpu_period_us = 100000, .cpu_quota_us = 50000, .cpuset_cpus = "0"};
  const Outcome outcome = Run(spec);
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.out, layout.unified ? "50000 100000\n0\n" : "50000\n512\n0\n") << outcome.err;
}

TEST_F(OciExecutorTest, LimitsThatCannotBeAppliedFailTheStep) {
  ProcessSpec spec = Shell("true");
  spec.resources = LinuxResources{.cpuset_cpus = "4000"};
  const Outcome outcome = Run(spec);
  ASSERT_FALSE(outcome.exit.ok());
  EXPECT_THAT(std::string(outcome.exit.status().message()), HasSubstr("cpuset"));
  spec = Shell("true");
  spec.cgroup_parent = "user.slice:";
  EXPECT_EQ(Run(spec).exit.status().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(OciExecutorTest, CgroupParentIsUsed) {
  ProcessSpec spec = Shell("cat /proc/self/cgroup");
  spec.cgroup_parent = absl::StrCat("kiln-test-", ::getpid());
  const Outcome outcome = Run(spec);
  if (!CgroupLayout::Detect().unified) {  // the cgroup namespace hides it on v2
    EXPECT_THAT(outcome.out,
                HasSubstr(absl::StrCat("/", spec.cgroup_parent, "/buildkit/", spec.id)));
  }
  for (const CgroupLayout::Hierarchy& one : CgroupLayout::Detect().hierarchies) {
    ::rmdir(absl::StrCat(one.mount_point, "/", spec.cgroup_parent, "/buildkit").c_str());
    ::rmdir(absl::StrCat(one.mount_point, "/", spec.cgroup_parent).c_str());
  }
}

TEST_F(OciExecutorTest, ManyAtOnce) {
  // They share a root: targets that each made and removed would be taken from the others.
  for (const char* file : {"/etc/hosts", "/etc/resolv.conf"}) scratch_.Write(file, "");
  for (const char* dir : {"/proc", "/dev", "/sys"}) fs::create_directories(scratch_.Path(dir));
  std::vector<std::thread> threads;
  std::vector<Outcome> outcomes(8);
  std::vector<ProcessSpec> specs;
  for (size_t i = 0; i < outcomes.size(); ++i)
    specs.push_back(Shell(absl::StrCat("echo ", i, "; exit ", i)));
  for (size_t i = 0; i < outcomes.size(); ++i)
    threads.emplace_back([&, i] { outcomes[i] = Run(specs[i]); });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < outcomes.size(); ++i) {
    ASSERT_TRUE(outcomes[i].exit.ok()) << outcomes[i].exit.status();
    EXPECT_EQ(outcomes[i].exit->code, static_cast<int>(i));
    EXPECT_EQ(outcomes[i].out, absl::StrCat(i, "\n"));
  }
}

TEST_F(OciExecutorTest, RuncGivesTheSame) {
  if (!FindRuntime("runc").ok()) GTEST_SKIP() << "no runc here";
  executor_.reset();
  OciExecutorOptions options;
  options.state_dir = scratch_.folder() + "/state";
  options.runtime = "runc";
  executor_ = *OciExecutor::Create(options);
  const Outcome outcome = Run(Shell("grep Seccomp: /proc/self/status; exit 4"));
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.exit->code, 4);
  EXPECT_THAT(outcome.out, HasSubstr("2"));
  const Outcome missing = Run(Spec({"/no/such"}));
  EXPECT_EQ(missing.exit->code, 127);
  EXPECT_THAT(Lines(missing.err), SizeIs(1));
  ProcessSpec spec = Shell("tail /dev/zero; exit 9");
  spec.resources = LinuxResources{.memory_bytes = 64 << 20, .memory_swap_bytes = 64 << 20};
  EXPECT_TRUE(Run(spec).exit->oom_killed);
  CancelSource source;
  std::thread canceller([&] {
    absl::SleepFor(absl::Milliseconds(100));
    source.Cancel();
  });
  EXPECT_EQ(Run(Shell("sleep 100"), source.token()).exit.status().code(),
            absl::StatusCode::kCancelled);
  canceller.join();
}

size_t NetworkLinks() {
  struct if_nameindex* all = ::if_nameindex();
  size_t n = 0;
  while (all != nullptr && all[n].if_name != nullptr) ++n;
  ::if_freenameindex(all);
  return n;
}

// A network of the machine's own plugins, without what needs a firewall. The thread's network is
// its own, so that names, addresses and counts are too.
TEST_F(OciExecutorTest, CniNetworkIsMadeAndTakenDown) {
  if (::access("/usr/lib/cni/bridge", X_OK) != 0)
    GTEST_SKIP() << "needs the package containernetworking-plugins";
  const std::string config = scratch_.folder() + "/cni.json";
  std::ofstream(config) << absl::StrCat(
      R"({"cniVersion":"0.4.0","name":"t","plugins":[{"type":"bridge","bridge":"kt0",)",
      R"("isDefaultGateway":true,"ipam":{"type":"host-local","dataDir":")", scratch_.folder(),
      R"(/addresses","ranges":[[{"subnet":"10.98.76.0/24"}]]}}]})");
  OciExecutorOptions options;
  options.state_dir = scratch_.folder() + "/state";
  options.network.cni_config_path = config;
  options.network.cni_binary_dir = "/usr/lib/cni";
  std::thread([&] {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    executor_.reset();
    executor_ = *OciExecutor::Create(options);
    EXPECT_STREQ(executor_->default_network(), "cni");
    (void)Run(Shell("true"));  // makes the bridge
    const Census before = Count(options.state_dir);
    const size_t links_before = NetworkLinks();
    const Outcome outcome = Run(Shell("ip -4 -o addr show eth0; ip route; ip -o link | wc -l"));
    ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
    EXPECT_THAT(outcome.out, HasSubstr("inet 10.98.76."));
    EXPECT_THAT(outcome.out, HasSubstr("default via 10.98.76.1"));
    EXPECT_TRUE(absl::EndsWith(outcome.out, "\n2\n")) << outcome.out;
    EXPECT_EQ(Count(options.state_dir), before);
    EXPECT_EQ(NetworkLinks(), links_before);
    size_t addresses = 0;
    for (const auto& entry : fs::directory_iterator(scratch_.folder() + "/addresses/t"))
      addresses += absl::StartsWith(entry.path().filename().string(), "10.");
    EXPECT_EQ(addresses, 0u);
    // A plugin that fails is the step's failure, and leaves nothing.
    std::ofstream(config) << R"({"cniVersion":"0.4.0","name":"t","type":"nosuchplugin"})";
    executor_.reset();
    executor_ = *OciExecutor::Create(options);
    EXPECT_THAT(std::string(Run(Shell("true")).exit.status().message()),
                HasSubstr("CNI setup error"));
    EXPECT_EQ(Count(options.state_dir), before);
  }).join();
}

TEST(FindRuntimeTest, NamesWhatIsMissing) {
  EXPECT_EQ(FindRuntime("/no/such/crun").status().message(), "failed to find /no/such/crun binary");
}

// Run by the test below in a process of its own, which is then killed.
TEST(OciExecutorVictim, DISABLED_RunsUntilKilled) {
  const char* folder = std::getenv("KILN_TEST_VICTIM_FOLDER");
  ASSERT_NE(folder, nullptr);
  OciExecutorOptions options;
  options.state_dir = std::string(folder) + "/state2";
  auto executor = OciExecutor::Create(options);
  ASSERT_TRUE(executor.ok());
  ProcessSpec spec;
  spec.id = absl::StrCat("victim", ::getpid());
  spec.rootfs = std::string(folder) + "/rootfs";
  spec.env = {"PATH=/bin"};
  spec.args = {"/bin/sh", "-c", absl::StrCat("echo up; sleep ", std::getenv("KILN_TEST_MARKER"))};
  spec.resources = LinuxResources{.memory_bytes = 64 << 20};
  (void)(*executor)->Run(
      spec, [](int, absl::string_view data) { (void)WriteAll(1, data); }, CancelToken());
}

TEST_F(OciExecutorLeakTest, StartTakesDownWhatAKilledDaemonLeft) {
  const std::string marker = Marker();
  auto pipe = MakePipe();
  ASSERT_TRUE(pipe.ok());
  ProcessOptions options;
  options.args = {"/proc/self/exe", "--gtest_also_run_disabled_tests",
                  "--gtest_filter=OciExecutorVictim.*"};
  options.args[0] = fs::read_symlink("/proc/self/exe").string();
  options.env =
      std::vector<std::string>{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "KILN_TEST_MARKER=" + marker,
                               "KILN_TEST_VICTIM_FOLDER=" + scratch_.folder()};
  options.stdout_fd = pipe->write.get();
  auto victim = Process::Start(options);
  ASSERT_TRUE(victim.ok());
  pipe->write.Reset();
  std::string seen;
  char buffer[256];
  while (!absl::StrContains(seen, "up\n")) {
    const ssize_t n = ::read(pipe->read.get(), buffer, sizeof buffer);
    ASSERT_GT(n, 0) << seen;
    seen.append(buffer, static_cast<size_t>(n));
  }
  // Only the daemon itself dies: what it started stays, as after kill -9.
  const pid_t pid = victim->pid();
  ASSERT_TRUE(victim->Signal(SIGKILL).ok());
  ASSERT_TRUE(victim->Wait(CancelToken()).ok());
  ASSERT_FALSE(Running(marker).empty());

  OciExecutorOptions again;
  again.state_dir = scratch_.folder() + "/state2";
  auto executor = OciExecutor::Create(again);
  ASSERT_TRUE(executor.ok()) << executor.status();
  EXPECT_TRUE(Running(marker).empty());
  EXPECT_EQ(CountEntries(again.state_dir + "/bundles", false), 0u);
  EXPECT_EQ(CountEntries(again.state_dir + "/runtime", false), 0u);
  for (const CgroupLayout::Hierarchy& one : CgroupLayout::Detect().hierarchies)
    EXPECT_FALSE(fs::exists(absl::StrCat(one.mount_point, "/buildkit/victim", pid)));
}

}  // namespace
}  // namespace kiln::daemon
