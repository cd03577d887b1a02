#include "client/cli/dockerfile_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace kiln::client {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Pair;

class DockerfileFlagsTest : public testing::Test {
 protected:
  DockerfileFlagsTest() {
    std::string pattern = testing::TempDir() + "/context-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    std::ofstream(folder_ + "/Dockerfile") << "FROM scratch\n";
  }
  ~DockerfileFlagsTest() override { std::filesystem::remove_all(folder_); }

  absl::Status Fill(const std::string& context) {
    return FillDockerfileBuild(context, flags_, &text_file_, &options_);
  }

  std::string folder_;
  DockerfileFlags flags_;
  TextDockerfile text_file_;
  SolveOptions options_;
};

TEST_F(DockerfileFlagsTest, DirectoryIsContextAndHoldsTheDockerfile) {
  ASSERT_TRUE(Fill(folder_).ok());
  EXPECT_EQ(options_.frontend, "dockerfile.v0");
  EXPECT_THAT(options_.frontend_attrs, Contains(Pair("filename", "Dockerfile")));
  EXPECT_THAT(options_.local_dirs, Contains(Pair("context", folder_)));
  EXPECT_THAT(options_.local_dirs, Contains(Pair("dockerfile", folder_)));
}

TEST_F(DockerfileFlagsTest, FileIsRelativeToWhereOneIs) {
  flags_.file = "deploy/web.Dockerfile";
  ASSERT_TRUE(Fill(folder_).ok());
  EXPECT_THAT(options_.frontend_attrs, Contains(Pair("filename", "web.Dockerfile")));
  EXPECT_THAT(options_.local_dirs, Contains(Pair("dockerfile", "deploy")));
}

TEST_F(DockerfileFlagsTest, AddressIsReadByTheDaemon) {
  ASSERT_TRUE(IsBuildContext("https://example.org/r.git#main"));
  ASSERT_TRUE(Fill("https://example.org/r.git#main").ok());
  EXPECT_THAT(options_.frontend_attrs, Contains(Pair("context", "https://example.org/r.git#main")));
  EXPECT_TRUE(options_.local_dirs.empty());
}

TEST_F(DockerfileFlagsTest, FlagsBecomeAttributes) {
  ::setenv("KILN_TEST_FROM_ENVIRONMENT", "e", 1);
  flags_.target = "web";
  flags_.build_args = {"A=1=2", "KILN_TEST_FROM_ENVIRONMENT", "KILN_TEST_NOT_SET"};
  flags_.labels = {"l=v"};
  flags_.platforms = {"linux/amd64", "linux/arm64"};
  flags_.add_hosts = {"one:1.2.3.4", "six=::1"};
  flags_.contexts = {"base=docker-image://busybox", "src=" + folder_};
  flags_.no_cache_filter = {"one", "two"};
  flags_.network = "none";
  flags_.pull = true;
  flags_.provenance = "mode=max";
  flags_.sbom = "false";
  ASSERT_TRUE(Fill(folder_).ok());
  const auto& attrs = options_.frontend_attrs;
  EXPECT_THAT(attrs, Contains(Pair("target", "web")));
  EXPECT_THAT(attrs, Contains(Pair("build-arg:A", "1=2")));
  EXPECT_THAT(attrs, Contains(Pair("build-arg:KILN_TEST_FROM_ENVIRONMENT", "e")));
  EXPECT_EQ(attrs.count("build-arg:KILN_TEST_NOT_SET"), 0u);
  EXPECT_THAT(attrs, Contains(Pair("label:l", "v")));
  EXPECT_THAT(attrs, Contains(Pair("platform", "linux/amd64,linux/arm64")));
  EXPECT_THAT(attrs, Contains(Pair("add-hosts", "one=1.2.3.4,six=::1")));
  EXPECT_THAT(attrs, Contains(Pair("context:base", "docker-image://busybox")));
  EXPECT_THAT(attrs, Contains(Pair("context:src", "local:src")));
  EXPECT_THAT(options_.local_dirs, Contains(Pair("src", folder_)));
  EXPECT_THAT(attrs, Contains(Pair("no-cache", "one,two")));
  EXPECT_THAT(attrs, Contains(Pair("force-network-mode", "none")));
  EXPECT_THAT(attrs, Contains(Pair("image-resolve-mode", "pull")));
  EXPECT_THAT(attrs, Contains(Pair("attest:provenance", "mode=max")));
  EXPECT_EQ(attrs.count("attest:sbom"), 0u);
  EXPECT_EQ(attrs.count("requestid"), 0u);
}

TEST_F(DockerfileFlagsTest, CheckIsARequestOfTheFrontend) {
  flags_.check = true;
  ASSERT_TRUE(Fill(folder_).ok());
  EXPECT_THAT(options_.frontend_attrs, Contains(Pair("requestid", "frontend.lint")));
  SolveResult result;
  result.metadata = {{"result.txt", "WARNING"}, {"result.statuscode", "1"}};
  EXPECT_EQ(PrintCall(flags_, result).code(), absl::StatusCode::kFailedPrecondition);
  result.metadata = {{"result.txt", ""}, {"result.statuscode", "0"}};
  EXPECT_TRUE(PrintCall(flags_, result).ok());
  result.metadata = {{"result.txt", "\nWARNING: x\n"},
                     {"result.json", R"({"warnings":[{},{}]})"},
                     {"result.statuscode", "1"}};
  testing::internal::CaptureStdout();
  EXPECT_FALSE(PrintCall(flags_, result).ok());
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            "Check complete, 2 warnings have been found!\n\nWARNING: x\n");
  result.metadata = {{"result.txt", ""}, {"result.json", "{}"}};
  testing::internal::CaptureStdout();
  EXPECT_TRUE(PrintCall(flags_, result).ok());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "Check complete, no warnings found.\n");
  result.metadata = {};
  EXPECT_EQ(PrintCall(flags_, result).code(), absl::StatusCode::kUnimplemented);
}

TEST_F(DockerfileFlagsTest, MistakesAreNamed) {
  const auto refused = [&](DockerfileFlags flags, const char* text) {
    SolveOptions options;
    const absl::Status status = FillDockerfileBuild(folder_, flags, &text_file_, &options);
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  };
  DockerfileFlags flags;
  flags.labels = {"=l"};
  refused(flags, "--label =l must be NAME=VALUE");
  flags = {};
  flags.contexts = {"x=/no/such/directory"};
  refused(flags, "--build-context x=/no/such/directory: no such directory");
  flags = {};
  flags.add_hosts = {"h"};
  refused(flags, "--add-host h must be");
  flags = {};
  flags.call = "nonsense";
  refused(flags, "--call nonsense");
  flags = {};
  flags.file = folder_;
  refused(flags, "is a directory");
}

}  // namespace
}  // namespace kiln::client
