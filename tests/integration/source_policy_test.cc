// Source policies of a build, by the command line.
#include "absl/strings/str_cat.h"
#include "tests/integration/image_fixture.h"

namespace kiln::integration {
namespace {

using testing::HasSubstr;

class SourcePolicyTest : public ImageBuildTest {
 protected:
  // Builds `dockerfile` under these rules into OUT; what the command said.
  std::string Build(const std::string& dockerfile, const std::string& rules, int exit_code) {
    dir_.Write("context/Dockerfile", dockerfile);
    dir_.Write("policy.json", absl::StrCat("{\"rules\": [", rules, "]}"));
    ProcessOptions options;
    options.args = {"sh",
                    "-c",
                    "\"$0\" --addr \"$1\" build \"$2/context\" --source-policy-file "
                    "\"$2/policy.json\" --progress plain -o \"$2/out\" 2>&1; echo exit=$?",
                    KILN_BINARY,
                    daemon_->address(),
                    dir_.path()};
    const std::string said = RunCommandForOutput(options, CancelToken()).value_or("");
    EXPECT_THAT(said, HasSubstr(absl::StrCat("exit=", exit_code)));
    return said;
  }
};

TEST_F(SourcePolicyTest, ImagesAreConvertedAndDenied) {
  // The name in the Dockerfile leads nowhere.
  const std::string dockerfile = "FROM registry.invalid/base:1\nRUN echo built > /proof\n";
  const std::string convert = absl::StrCat(
      R"({"action": "CONVERT", "selector": {"identifier": "docker-image://registry.invalid/*:*"},)",
      R"( "updates": {"identifier": "docker-image://)", registry().host(), R"(/${1}:latest"}})");
  Build(dockerfile, convert, 0);
  EXPECT_EQ(Slurp(dir_.path() + "/out/proof"), "built\n");

  const std::string deny =
      R"({"action": "DENY", "selector": {"identifier": "docker-image://127.0.0.1:*"}})";
  EXPECT_THAT(Build(dockerfile, absl::StrCat(convert, ",", deny), 1),
              HasSubstr("denied by policy"));
  const std::string allow =
      R"re({"action": "ALLOW", "selector": {"matchType": "REGEX", "identifier": "/base:latest"}})re";
  Build(dockerfile, absl::StrCat(convert, ",", deny, ",", allow), 0);
}

TEST_F(SourcePolicyTest, AChecksumThatARuleSetsIsHeld) {
  const std::string dockerfile =
      absl::StrCat("FROM scratch\nADD http://", registry().host(), "/v2/ /f\n");
  const auto pin = [](const std::string& digest) {
    return absl::StrCat(R"({"action": "CONVERT", "selector": {"identifier": "http://*"},)",
                        R"( "updates": {"identifier": "http://${1}", "attrs": {"http.checksum": ")",
                        digest, R"("}}})");
  };
  EXPECT_THAT(Build(dockerfile, pin(Digest::Of("other").ToString()), 1),
              HasSubstr("digest mismatch"));
  Build(dockerfile, pin(Digest::Of("{}").ToString()), 0);
  EXPECT_EQ(Slurp(dir_.path() + "/out/f"), "{}");
}

TEST_F(SourcePolicyTest, AMisspeltRuleIsRefusedByTheClient) {
  EXPECT_THAT(Build("FROM scratch\n", R"({"acton": "DENY"})", 2), HasSubstr("acton"));
}

}  // namespace
}  // namespace kiln::integration
