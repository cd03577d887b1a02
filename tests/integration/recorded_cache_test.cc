// A cache that another implementation wrote (images-and-cache.md 7.1, C17). testdata/interop has
// what buildkitd v0.31.2 exported with mode=max to a local folder, the Dockerfile that it built,
// and the base image: one program, `/make PATH`, which makes a file that says "made".

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/daemon/source/test_http_server.h"
#include "tests/integration/dockerfile_fixture.h"

namespace kiln::integration {
namespace {

using daemon::TestHttpServer;

constexpr char kRecorded[] = KILN_TESTDATA "/interop";
constexpr char kBase[] = "sha256:cdaef89434d18711945ed271e127f48cd1a69ff9578685a83235c7cc50d4df6b";
constexpr char kRecordedServer[] = "http://127.0.0.1:5057/";

class RecordedCacheTest : public DockerfileTest {
 protected:
  void SetUp() override {
    DockerfileTest::SetUp();
    context_.Write("a.txt", "a\n");
    context_.Write("dir/x", "x\n");
    context_.Write("dir/sub/y", "y\n");
    dockerfile_text_ = absl::StrReplaceAll(Slurp(absl::StrCat(kRecorded, "/Dockerfile")),
                                           {{kRecordedServer, absl::StrCat(server_.Url("/"))}});
    input_.attrs["context:base"] = absl::StrCat("oci-layout://base:v1@", kBase);
    input_.oci_layouts["base"] = absl::StrCat(kRecorded, "/base");
    input_.cache_imports = {{"local", {{"src", absl::StrCat(kRecorded, "/cache")}}}};
  }

  // Steps of the Dockerfile that ran.
  static std::vector<std::string> Ran(const DockerfileRun& run) {
    std::vector<std::string> names;
    for (const auto& [name, step] : run.seen.steps()) {
      const bool of_file = absl::StrContains(name, "] RUN") || absl::StrContains(name, "] COPY") ||
                           absl::StrContains(name, "] ADD");
      if (of_file && step.started && !step.cached) names.push_back(name);
    }
    return names;
  }

  // The date and the bytes of a file are in its key.
  TestHttpServer server_{[](const daemon::TestHttpRequest& request) {
    return TestHttpServer::Answer("200 OK", {"Last-Modified: Tue, 02 Jan 2024 03:04:05 GMT"},
                                  request.method == "HEAD" ? "" : "f\n");
  }};
  std::string dockerfile_text_;
  Input input_;
};

TEST_F(RecordedCacheTest, C17_EveryStepComesFromIt) {
  const auto run = Make(dockerfile_text_, input_);
  EXPECT_THAT(Ran(*run), testing::IsEmpty());
  for (const char* made : {"one", "from-left/left", "from-right/right", "last"})
    EXPECT_EQ(run->File(made), "made\n") << made;
  EXPECT_EQ(run->File("from-left/a.txt"), "a\n");
  EXPECT_EQ(run->File("from-right/dir/sub/y"), "y\n");
  EXPECT_EQ(run->File("from-right/f.txt"), "f\n");
}

TEST_F(RecordedCacheTest, C17_WhatChangedRuns) {
  context_.Write("a.txt", "other\n");
  const auto run = Make(dockerfile_text_, input_);
  EXPECT_THAT(Ran(*run), testing::UnorderedElementsAre(testing::HasSubstr("COPY a.txt"),
                                                       testing::HasSubstr("COPY --from=left"),
                                                       testing::HasSubstr("COPY --from=right"),
                                                       testing::HasSubstr("/last")));
  EXPECT_EQ(run->File("from-left/a.txt"), "other\n");
  EXPECT_EQ(run->File("last"), "made\n");
}

}  // namespace
}  // namespace kiln::integration
