// Contexts: the client's directories, what is ignored, and what stands for images and stages
// (dockerfile.md 9, by number).

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/dockerfile_fixture.h"

namespace kiln::integration {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class DockerfileContextTest : public DockerfileTest {
 protected:
  // Bytes that came from the client for a source whose name holds `part`.
  static int64_t Received(const DockerfileRun& run, const std::string& part) {
    int64_t bytes = 0;
    for (const auto& [name, step] : run.seen.steps()) {
      if (!absl::StrContains(name, part)) continue;
      for (const auto& [text, count] : step.transferred) bytes += count;
    }
    return bytes;
  }
};

TEST_F(DockerfileContextTest, S108To110And114WhatStandsForImages) {
  Input push;
  push.push = "alpine";
  Make("FROM busybox\nENV foo=from-alpine\nRUN echo alpine > /name\n", push);
  Input input;
  input.attrs["context:busybox"] = "docker-image://alpine";
  input.attrs["context:unused"] = "docker-image://no/such/image:at-all";
  auto run = Make(
      "FROM busybox AS b\nRUN echo $foo > /env\nFROM scratch\nCOPY --from=b /env /name /\n", input);
  EXPECT_EQ(run->File("env"), "from-alpine\n") << "S108, S110";
  EXPECT_EQ(run->File("name"), "alpine\n") << "S108";
  input.attrs.erase("context:busybox");
  input.attrs["context:base"] = "docker-image://alpine";
  run = Make(R"(FROM no.such/image AS base
RUN false
FROM base AS next
RUN echo $foo > /env
FROM scratch
COPY --from=base /name /
COPY --from=next /env /
)",
             input);
  EXPECT_EQ(run->File("env"), "from-alpine\n") << "S109";
  EXPECT_EQ(run->File("name"), "alpine\n") << "S109";
  input.attrs["context:base"] = "docker-image://scratch";
  run = Make(R"(FROM busybox AS b
FROM base AS empty
COPY --from=b /bin /bin
RUN ls / | tr '\n' ' ' > /list
FROM scratch
COPY --from=empty /list /
)",
             input);
  EXPECT_THAT(run->File("list"), Not(HasSubstr("tmp "))) << "S114";
}

TEST_F(DockerfileContextTest, S111LocalContexts) {
  TempDir other;
  other.Write(".dockerignore", "bar\n");
  other.Write("foo", std::string(1000, 'f'));
  other.Write("bar", std::string(1000, 'b'));
  other.Write("large", std::string(500'000, 'l'));
  Input input;
  input.locals["otherdir"] = other.path();
  input.attrs["context:other"] = "local:otherdir";
  auto run = Make("FROM scratch\nCOPY --from=other /foo /\n", input);
  EXPECT_EQ(run->File("foo"), std::string(1000, 'f'));
  EXPECT_LT(Received(*run, "load from client"), 10'000);
  EXPECT_GE(Received(*run, "load from client"), 1'000);
  run = Make("FROM scratch\nCOPY --from=other / /\n", input);
  EXPECT_EQ(run->File("bar"), "(none)");
  run = Make(R"(FROM busybox AS tools
FROM other AS o
RUN --mount=from=tools,target=/bin,source=/bin ls / > /list
FROM scratch
COPY --from=o /list /
)",
             input);
  EXPECT_THAT(run->File("list"), HasSubstr("large"));
  EXPECT_THAT(run->File("list"), HasSubstr("foo"));
  EXPECT_THAT(run->File("list"), Not(HasSubstr("bar")));
}

TEST_F(DockerfileContextTest, S113LayoutsStandForBasesAndStages) {
  TempDir dir;
  Input input;
  input.archive = dir.path() + "/image.tar";
  Make("FROM busybox\nENV foo=from-layout\nRUN echo layout > /name\n", input);
  const std::string layout = dir.path() + "/layout";
  fs::create_directory(layout);
  Output({"tar", "-C", layout, "-xf", input.archive});
  const auto index = nlohmann::json::parse(Slurp(layout + "/index.json"));
  const std::string digest = index["manifests"][0]["digest"];

  input = Input();
  input.oci_layouts["store"] = layout;
  input.attrs["context:no.such/image"] = absl::StrCat("oci-layout://store@", digest);
  input.attrs["context:made"] = absl::StrCat("oci-layout://store:any@", digest);
  const char file[] = R"(FROM no.such/image AS base
RUN echo $foo > /env
FROM busybox AS made
RUN false
FROM scratch
COPY --from=base /env /
COPY --from=made /name /
COPY --from=no.such/image /name /of-image
)";
  const auto run = Make(file, input);
  EXPECT_EQ(run->File("env"), "from-layout\n");
  EXPECT_EQ(run->File("name"), "layout\n");
  EXPECT_EQ(run->File("of-image"), "layout\n");

  input.attrs["context:made"] = "oci-layout://store:any";
  EXPECT_THAT(std::string(Try(file, input)->status.message()), HasSubstr("has no digest"));
}

TEST_F(DockerfileContextTest, S115To118IgnoredFilesAndNames) {
  for (const char* file : {"foo", "bar", "baz", "bay", "Dockerfile"}) context_.Write(file, file);
  context_.Write(".dockerignore", "ba*\nDockerfile\n!bay\n.dockerignore\n");
  auto run = Make("FROM scratch\nCOPY . /\n");
  EXPECT_TRUE(run->Has("foo")) << "S115";
  EXPECT_TRUE(run->Has("bay")) << "S115";
  for (const char* file : {"bar", "baz", "Dockerfile", ".dockerignore"})
    EXPECT_FALSE(run->Has(file)) << "S115 " << file;
  dockerfile_.Write("Dockerfile2.dockerignore", "foo\n");
  Input input;
  input.attrs["filename"] = "Dockerfile2";
  run = Make("FROM scratch\nCOPY . /\n", input);
  EXPECT_FALSE(run->Has("foo")) << "S116";
  EXPECT_TRUE(run->Has("bar")) << "S116";
  context_.Write(".dockerignore", "!\n");
  const auto failed = Try("FROM scratch\nCOPY . /\n");
  EXPECT_THAT(std::string(failed->status.message()), HasSubstr("illegal exclusion pattern"))
      << "S117";
  fs::remove(context_.path() + "/.dockerignore");
  TempDir lower, linked;
  lower.Write("dockerfile", "FROM scratch\nCOPY foo /lower\n");
  linked.Write("web", "FROM scratch\nCOPY foo /linked\n");
  fs::create_symlink("web", linked.path() + "/Dockerfile");
  input = Input();
  input.locals["dockerfile"] = lower.path();
  EXPECT_TRUE(Make("", input)->Has("lower")) << "S118";
  input.locals["dockerfile"] = linked.path();
  EXPECT_TRUE(Make("", input)->Has("linked")) << "S118";
}

TEST_F(DockerfileContextTest, S122ADirectoryBecomesAFile) {
  context_.Write("foo/bar", "inside");
  const char file[] = "FROM scratch\nCOPY . /\n";
  EXPECT_EQ(Make(file)->File("foo/bar"), "inside");
  fs::remove_all(context_.path() + "/foo");
  context_.Write("foo", "now a file");
  EXPECT_EQ(Make(file)->File("foo"), "now a file");
}

TEST_F(DockerfileContextTest, S145PlatformsWithoutFiles) {
  TempDir dir;
  Input input;
  input.attrs["platform"] = "linux/amd64,linux/arm64";
  input.archive = dir.path() + "/image.tar";
  Make("FROM scratch\n", input);
  fs::create_directory(dir.path() + "/x");
  Output({"tar", "-C", dir.path() + "/x", "-xf", input.archive});
  const std::string index = Slurp(dir.path() + "/x/index.json");
  const size_t at = index.find("sha256:");
  ASSERT_NE(at, std::string::npos);
  const std::string list = Slurp(dir.path() + "/x/blobs/sha256/" + index.substr(at + 7, 64));
  EXPECT_THAT(list, HasSubstr("amd64"));
  EXPECT_THAT(list, HasSubstr("arm64"));
}

}  // namespace
}  // namespace kiln::integration
