// Builds for other machines than this one: what is emulated, and what is said where nothing
// emulates.

#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/integration/dockerfile_fixture.h"

namespace kiln::integration {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using testing::HasSubstr;

// A handler of the kernel's for arm64 programs, for as long as it lives.
class Arm64Handler {
 public:
  Arm64Handler() {
    if (::mount("binfmt_misc", dir_.path().c_str(), "binfmt_misc", 0, nullptr) != 0) {
      missing_ = "binfmt_misc cannot be mounted";
      return;
    }
    mounted_ = true;
    const std::string emulator = "/usr/bin/qemu-aarch64-static";
    if (!fs::exists(emulator)) {
      missing_ = absl::StrCat("there is no ", emulator);
      return;
    }
    std::ofstream out(dir_.path() + "/register");
    out << ":" << kName
        << R"(:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:)"
        << R"(\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:)"
        << emulator << ":F" << std::flush;
    if (!out) missing_ = "the kernel takes no handler";
  }
  ~Arm64Handler() {
    if (!mounted_) return;
    std::ofstream(dir_.path() + "/" + kName) << "-1";
    ::umount2(dir_.path().c_str(), MNT_DETACH);
  }

  // Why there is none; "": there is one.
  const std::string& missing() const { return missing_; }

 private:
  static constexpr char kName[] = "kiln-test-aarch64";
  TempDir dir_;
  bool mounted_ = false;
  std::string missing_;
};

class DockerfilePlatformTest : public DockerfileTest {
 protected:
  // A program for each architecture that ends well, from the daemon's own.
  void PutPrograms() {
    for (const fs::directory_entry& each :
         fs::directory_iterator(daemon_->root() + "/executor/foreign"))
      context_.Write("program-" + each.path().filename().string(), Slurp(each.path()), 0755);
  }
  std::string Workers() const {
    return Output({KILN_BINARY, "--addr", daemon_->address(), "workers", "-v"});
  }

  static constexpr char kFile[] =
      "FROM scratch\nARG TARGETARCH\nCOPY program-$TARGETARCH /program\nRUN [\"/program\"]\n";
};

TEST_F(DockerfilePlatformTest, WithoutAnEmulatorTheErrorSaysWhatIsMissing) {
  PutPrograms();
  for (const char* architecture : {"loong64", "mips64", "s390x", "riscv64", "arm64"}) {
    if (testing::Value(Workers(), HasSubstr(absl::StrCat("linux/", architecture)))) continue;
    Input input;
    input.attrs["platform"] = absl::StrCat("linux/amd64,linux/", architecture);
    input.archive = context_.path() + "/image.tar";
    const auto run = Try(kFile, input);
    EXPECT_THAT(std::string(run->status.message()),
                HasSubstr(absl::StrCat("no binfmt_misc handler for linux/", architecture,
                                       "; install qemu-user-static")));
    return;
  }
  GTEST_SKIP() << "this machine emulates everything";
}

class DockerfileEmulationTest : public DockerfilePlatformTest {
 protected:
  const Arm64Handler handler_;  // before the daemon looks for it
};

TEST_F(DockerfileEmulationTest, SeveralPlatformsInOneBuild) {
  if (!handler_.missing().empty()) GTEST_SKIP() << handler_.missing();
  PutPrograms();
  TempDir dir;
  Input input;
  input.attrs["platform"] = "linux/amd64,linux/arm64";
  input.archive = dir.path() + "/image.tar";
  const auto run = Make(kFile, input);
  EXPECT_TRUE(run->StepLike("[linux/arm64 1/2] COPY program-arm64 /program").completed);
  EXPECT_THAT(Workers(), HasSubstr("linux/arm64"));
  const std::string layout = dir.path() + "/x";
  fs::create_directory(layout);
  Output({"tar", "-C", layout, "-xf", input.archive});
  const auto blob = [&](const Json& descriptor) {
    return Json::parse(Slurp(absl::StrCat(layout, "/blobs/sha256/",
                                          descriptor.at("digest").get<std::string>().substr(7))));
  };
  const Json index = blob(Json::parse(Slurp(layout + "/index.json")).at("manifests")[0]);
  ASSERT_EQ(index.at("manifests").size(), 2u);
  for (const Json& one : index.at("manifests")) {
    const Json manifest = blob(one);
    EXPECT_EQ(blob(manifest.at("config")).at("architecture"),
              one.at("platform").at("architecture"));
    EXPECT_EQ(manifest.at("layers").size(), 2u);
  }
  EXPECT_EQ(index.at("manifests")[1].at("platform").at("architecture"), "arm64");
}

}  // namespace
}  // namespace kiln::integration
