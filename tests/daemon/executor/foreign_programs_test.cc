#include "daemon/executor/foreign_programs.h"

#include <unistd.h>

#include <filesystem>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/base/fd.h"
#include "store/base/process.h"

namespace kiln::daemon {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::Not;

class ForeignProgramsTest : public testing::Test {
 protected:
  ForeignProgramsTest() {
    std::string pattern = testing::TempDir() + "foreign-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }
  ~ForeignProgramsTest() override { fs::remove_all(folder_); }

  // Exit code of a program; -1 when it cannot be started.
  static int Run(std::vector<std::string> args) {
    ProcessOptions options;
    options.args = std::move(args);
    auto process = Process::Start(options);
    if (!process.ok()) return -1;
    const auto exit = process->Wait(CancelToken());
    return exit.ok() ? exit->ShellCode() : -1;
  }

  std::string folder_;
};

TEST_F(ForeignProgramsTest, OwnProgramsRunAndUnknownOnesDoNot) {
  ForeignPrograms foreign(folder_);
  EXPECT_TRUE(foreign.Runs(NativeArchitecture()));
  EXPECT_FALSE(foreign.Runs("pdp11"));
  EXPECT_FALSE(foreign.Runs(""));
}

TEST_F(ForeignProgramsTest, TheFirstPlatformIsTheMachine) {
  ForeignPrograms foreign(folder_);
  const std::vector<std::string> platforms = WorkerPlatforms(foreign);
  EXPECT_EQ(platforms[0], "linux/" + NativeArchitecture());
  EXPECT_EQ(platforms, WorkerPlatforms(foreign)) << "also from memory";
  EXPECT_THAT(foreign.Architectures(), Not(Contains(NativeArchitecture())));
}

TEST_F(ForeignProgramsTest, WhatDoesNotEndWellDoesNotRun) {
  ForeignPrograms foreign(folder_);
  fs::remove(folder_ + "/arm64");
  EXPECT_FALSE(foreign.Runs("arm64"));
  ForeignPrograms again(folder_);
  EXPECT_TRUE(fs::exists(folder_ + "/arm64"));
}

TEST_F(ForeignProgramsTest, WhatRunsNoLongerIsNotBelieved) {
  ForeignPrograms foreign(folder_);
  ASSERT_TRUE(foreign.Runs(NativeArchitecture()));
  fs::remove(absl::StrCat(folder_, "/", NativeArchitecture()));
  EXPECT_FALSE(foreign.Runs(NativeArchitecture())) << "an emulator was taken away";
}

// The programs are right when emulators say so.
TEST_F(ForeignProgramsTest, EmulatorsAgree) {
  ForeignPrograms foreign(folder_);
  int seen = 0;
  for (const auto& [architecture, qemu] :
       {std::pair("amd64", "x86_64"), std::pair("arm64", "aarch64"), std::pair("arm", "arm"),
        std::pair("386", "i386"), std::pair("riscv64", "riscv64"), std::pair("ppc64le", "ppc64le"),
        std::pair("s390x", "s390x"), std::pair("mips64", "mips64"),
        std::pair("mips64le", "mips64el"), std::pair("loong64", "loongarch64")}) {
    const std::string emulator = absl::StrCat("/usr/bin/qemu-", qemu, "-static");
    if (!fs::exists(emulator)) continue;
    ++seen;
    EXPECT_EQ(Run({emulator, absl::StrCat(folder_, "/", architecture)}), 0) << architecture;
  }
  if (seen == 0) GTEST_SKIP() << "no emulators: install qemu-user-static";
}

}  // namespace
}  // namespace kiln::daemon
