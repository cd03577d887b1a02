#include "daemon/frontend/gateway/allowed_sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kiln::daemon {
namespace {

using testing::HasSubstr;

TEST(AllowedSources, WithoutRepositoriesAnyImageMayRun) {
  EXPECT_TRUE(AllowedSources().Check("x/y:1").ok());
  EXPECT_TRUE(AllowedSources::Parse({})->Check("no: name").ok());
}

TEST(AllowedSources, RepositoriesAreComparedInFull) {
  // The tag of an entry means nothing.
  const auto allowed =
      AllowedSources::Parse({"docker/dockerfile", "docker.io/library/own:1", "localhost:5000/a/b"});
  ASSERT_TRUE(allowed.ok()) << allowed.status();
  const std::string digest = "@sha256:" + std::string(64, '0');
  for (const std::string& source : std::vector<std::string>{
           "docker/dockerfile", "docker.io/docker/dockerfile:1.26", "docker/dockerfile:1" + digest,
           "own", "own:2", "localhost:5000/a/b" + digest}) {
    EXPECT_TRUE(allowed->Check(source).ok()) << source;
  }
  for (const char* source : {"docker/dockerfile-upstream", "docker/dockerfile/x", "x/own",
                             "localhost/a/b", "example.com/docker/dockerfile", "dockerfile"}) {
    const absl::Status status = allowed->Check(source);
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << source;
    EXPECT_EQ(status.message(), "'" + std::string(source) + "' is not an allowed gateway source");
  }
  EXPECT_EQ(allowed->Check("No Name").code(), absl::StatusCode::kInvalidArgument);
}

TEST(AllowedSources, AMalformedRepositoryIsNamed) {
  const absl::Status status = AllowedSources::Parse({"docker/dockerfile", "docker/UPPER"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("allowedRepositories"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("docker/UPPER"));
}

}  // namespace
}  // namespace kiln::daemon
