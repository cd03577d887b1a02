// What is mounted in a step's root, and the targets that are made for it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "store/base/fd.h"
#include "tests/daemon/executor/oci_executor_fixture.h"

namespace kiln::daemon {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

TEST_F(OciExecutorTest, MountsAndReadOnlyRoot) {
  fs::create_directories(scratch_.folder() + "/data/sub");
  std::ofstream(scratch_.folder() + "/data/file") << "content";
  ProcessSpec spec = Shell(
      "cat /m/file; echo; echo new >/m/made; touch "
      "/m/ro/x; touch /root/x; touch /t/x && echo t;"
      "stat -f -c %T /t");
  spec.mounts = {{"/m", scratch_.folder() + "/data", "bind", {"rw"}},
                 {"/m/ro", scratch_.folder() + "/data/sub", "bind", {"ro"}},
                 {"/t", "", "tmpfs", {"nosuid", "size=65536"}}};
  spec.rootfs_readonly = true;
  const Outcome outcome = Run(spec);
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.out, "content\nt\ntmpfs\n") << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("/m/ro/x: Read-only"));
  EXPECT_THAT(outcome.err, HasSubstr("/root/x: Read-only"));
  EXPECT_EQ(*ReadFileToString(scratch_.folder() + "/data/made"), "new\n");
  EXPECT_FALSE(fs::exists(scratch_.Path("/m")));
  EXPECT_FALSE(fs::exists(scratch_.Path("/t")));
}

timespec Mtime(const std::string& path) {
  struct stat st = {};
  EXPECT_EQ(::lstat(path.c_str(), &st), 0) << path;
  return st.st_mtim;
}
bool operator==(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

TEST_F(OciExecutorTest, Llb6_84_StubsLeaveNoTrace) {
  for (const char* dir : {"/etc", "/has", "/proc", "/dev", "/sys"})
    fs::create_directories(scratch_.Path(dir));
  std::ofstream(scratch_.folder() + "/file") << "bound";
  const timespec old[2] = {{1000, 5}, {2000, 7}};
  for (const char* dir : {"/etc", "/has", "/"})
    ASSERT_EQ(::utimensat(AT_FDCWD, scratch_.Path(dir).c_str(), old, 0), 0);
  ProcessSpec spec = Shell("stat -c %Y /etc /has; cat /has/file");
  spec.mounts = {{"/has/dir", scratch_.folder(), "bind", {"ro"}},
                 {"/has/file", scratch_.folder() + "/file", "bind", {"ro"}},
                 {"/has/scratch", "", "tmpfs", {}}};
  const Outcome outcome = Run(spec);
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(outcome.out, "2000\n2000\nbound") << outcome.err;  // nor does the step see any
  EXPECT_TRUE(fs::is_empty(scratch_.Path("/etc")));
  EXPECT_TRUE(fs::is_empty(scratch_.Path("/has")));
  for (const char* dir : {"/etc", "/has", "/"})
    EXPECT_TRUE(Mtime(scratch_.Path(dir)) == old[1]) << dir;
}

TEST_F(OciExecutorTest, Llb6_84_WhatTheStepWroteStays) {
  fs::create_directories(scratch_.Path("/etc"));
  fs::create_symlink("busybox", scratch_.Path("/bin/umount"));
  ProcessSpec spec = Shell(
      "umount /etc/hosts && echo kept >/etc/hosts; umount "
      "/target && echo x >/target/inside");
  spec.security = SecurityMode::kInsecure;
  spec.mounts = {{"/target", "", "tmpfs", {}}};
  const Outcome outcome = Run(spec);
  ASSERT_TRUE(outcome.exit.ok()) << outcome.exit.status();
  EXPECT_EQ(ReadFileToString(scratch_.Path("/etc/hosts")).value_or(""), "kept\n") << outcome.err;
  EXPECT_EQ(ReadFileToString(scratch_.Path("/target/inside")).value_or(""), "x\n");
  EXPECT_FALSE(fs::exists(scratch_.Path("/etc/resolv.conf")));
}

TEST_F(OciExecutorTest, WhereTheRuntimeMountsStaysAnOrdinaryDirectory) {
  for (const char* dir : {"/proc", "/dev", "/sys"}) fs::remove_all(scratch_.Path(dir));
  ASSERT_TRUE(Run(Shell("true")).exit.ok());
  for (const char* dir : {"/proc", "/dev", "/sys"}) {
    struct stat st = {};
    ASSERT_EQ(::lstat(scratch_.Path(dir).c_str(), &st), 0) << dir;
    EXPECT_EQ(st.st_mode, S_IFDIR | 0755u) << dir;
  }
}

TEST_F(OciExecutorTest, StubParents) {
  ProcessSpec spec = Shell("true");
  spec.mounts = {{"/a/b/c", "", "tmpfs", {}}};
  ASSERT_TRUE(Run(spec).exit.ok());
  EXPECT_TRUE(fs::exists(scratch_.Path("/a/b")));
  EXPECT_FALSE(fs::exists(scratch_.Path("/a/b/c")));
  spec = Shell("true");
  spec.mounts = {{"/x/y/z", "", "tmpfs", {}}};
  spec.remove_stubs_recursive = true;
  ASSERT_TRUE(Run(spec).exit.ok());
  EXPECT_FALSE(fs::exists(scratch_.Path("/x")));
}

TEST_F(OciExecutorTest, HostileMountTargetsStayInTheRoot) {
  fs::create_directories(scratch_.folder() + "/victim");
  fs::create_symlink(scratch_.folder() + "/victim", scratch_.Path("/absolute"));
  fs::create_symlink("../../../../../.." + scratch_.folder() + "/victim", scratch_.Path("/dots"));
  fs::create_symlink("/loop", scratch_.Path("/loop"));
  for (const char* target : {"/absolute/new", "/dots/new", "/absolute"}) {
    ProcessSpec spec = Shell("true");
    spec.mounts = {{target, "", "tmpfs", {}}};
    (void)Run(spec);  // whether it runs is the runtime's choice; what matters is
                      // the host
    EXPECT_TRUE(fs::is_empty(scratch_.folder() + "/victim")) << target;
  }
  ProcessSpec spec = Shell("true");
  spec.mounts = {{"/loop/x", "", "tmpfs", {}}};
  EXPECT_FALSE(Run(spec).exit.ok());
  // /etc itself leads out: hosts and resolv.conf are not made there.
  fs::remove_all(scratch_.Path("/etc"));
  fs::create_symlink("../../../../../.." + scratch_.folder() + "/victim", scratch_.Path("/etc"));
  (void)Run(Shell("true"));
  EXPECT_TRUE(fs::is_empty(scratch_.folder() + "/victim"));
}

}  // namespace
}  // namespace kiln::daemon
