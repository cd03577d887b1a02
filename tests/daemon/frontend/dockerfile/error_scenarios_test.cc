// Builds that fail, by the numbers of the statements (dockerfile.md 9).
#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "proto/status_details.h"
#include "tests/daemon/frontend/dockerfile/frontend_fixture.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;

struct ErrorCase {
  const char* name;  // S and the number
  const char* dockerfile;
  const char* error;
  std::map<std::string, std::string> options = {};
};

class ErrorScenarioTest : public FrontendFixture, public testing::WithParamInterface<ErrorCase> {};

TEST_P(ErrorScenarioTest, SaysWhy) {
  client_.options = GetParam().options;
  if (const auto ignore = client_.options.find("ignore"); ignore != client_.options.end()) {
    client_.locals["context"][".dockerignore"] = ignore->second;
  }
  const auto result = Build(GetParam().dockerfile);
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(GetParam().error));
}

INSTANTIATE_TEST_SUITE_P(
    Statements, ErrorScenarioTest,
    testing::ValuesIn<ErrorCase>({
        {"S1", "", "the Dockerfile cannot be empty"},
        {"S2", "# only a comment\n", "file with no instructions"},
        {"S3", "ARG foo=bar\n", "dockerfile contains no stages to build"},
        {"S4", "RUN x\nFROM busybox\n", "no build stage in current context"},
        {"S5", "FROM busybox\nFNTRYPOINT [\"x\"]\n",
         "unknown instruction: FNTRYPOINT (did you mean ENTRYPOINT?)"},
        {"S6", "FROM busybox\nRUN a\nRUN b\nBADCMD\n",
         "dockerfile parse error on line 4: unknown instruction: BADCMD"},
        {"NoText", "FROM busybox\nRUN echo \xff\n", "the instruction is not valid UTF-8"},
        {"NoTextInAHeredoc", "FROM busybox\nRUN <<E\n\xc3\nE\n", "the command is not valid UTF-8"},
        {"S19", "FROM busybox\nCMD [\"a\", 1]\n", "arrays must be comprised of strings only"},
        {"S26", "FROM busybox\nRUN <<EOF\nx\n", "unterminated heredoc"},
        {"S32", "ARG FOO=${FOO:?\"custom error\"}\nFROM busybox\n", "FOO: custom error"},
        {"S40", "FROM --platform=$BULIDPLATFORM busybox\n",
         "empty platform value from expression $BULIDPLATFORM (did you mean BUILDPLATFORM?)"},
        {"S41", "FROM \"\" AS x\n", "base name (\"\") should not be blank"},
        {"S41Undefined", "FROM $undefined AS x\n", "base name ($undefined) should not be blank"},
        {"S43",
         "FROM busybox AS build\n",
         "target stage \"bulid\" could not be found (did you mean build?)",
         {{"target", "bulid"}}},
        {"S44",
         "FROM busybox AS a\nCOPY --from=build x y\nFROM a AS build\n",
         "cannot copy from stage \"build\", it needs to be defined before current stage \"a\"",
         {{"target", "a"}}},
        {"S45", "FROM busybox AS stage0\nCOPY --from=stage0 f1 /\n",
         "circular dependency detected on stage: stage0"},
        {"S45ThreeWay",
         "FROM busybox AS stage0\nCOPY --from=stage2 f /\nFROM busybox AS stage1\nCOPY "
         "--from=stage0 f /\nFROM busybox AS stage2\nCOPY --from=stage1 f /\n",
         "circular dependency detected on stage: stage0"},
        {"S46", "FROM busybox\nARG FOO\nCOPY --from=$FOO a b\n",
         "variable expansion is not supported for --from, define a new stage with FROM using ARG "
         "from global scope as a workaround"},
        {"S46Index", "FROM busybox\nCOPY --from=7 a b\n", "invalid stage index 7"},
        {"S67", "FROM busybox\nCOPY --chmod=64a foo /\n",
         "invalid chmod parameter: '64a'. it should be octal string and between 0 and 07777"},
        {"S67TooLarge", "FROM busybox\nCOPY --chmod=10000 foo /\n",
         "invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777"},
        {"S77Local", "FROM busybox\nADD --checksum=sha256:00 foo /\n",
         "checksum requires HTTP(S) or Git sources"},
        {"S77Two", "FROM busybox\nADD --checksum=sha256:00 https://a/x https://a/y /\n",
         "checksum can't be specified for multiple sources"},
        {"S79", "FROM busybox\nADD https://a/r.git?tag=v1#other /\n", "ref conflicts"},
        {"S79CopyGit", "FROM busybox\nCOPY https://a/r.git /\n",
         "source can't be a git ref for COPY"},
        {"S79CopyUrl", "FROM busybox\nCOPY https://a/r /\n", "source can't be a URL for COPY"},
        {"S82", "FROM busybox\nRUN --mont=target=/x true\n",
         "unknown flag: --mont (did you mean mount?)"},
        {"S82Key", "FROM busybox\nRUN --mount=typ=cache true\n",
         "unexpected key 'typ' in 'typ=cache' (did you mean type?)"},
        {"S82Type", "FROM busybox\nRUN --mount=type=tmp,target=/x true\n",
         "unsupported mount type \"tmp\" (did you mean tmpfs?)"},
        {"S82Target", "FROM busybox\nRUN --mount=target=/ true\n", "invalid mount target \"/\""},
        {"S87", "FROM busybox\nARG ttt=x\nRUN --mount=from=$ttt,target=/x true\n",
         "'from' doesn't support variable expansion, define alias stage instead"},
        {"S98Port", "FROM busybox\nEXPOSE 80/icmp\n",
         "invalid port: \"80/icmp\": invalid proto: icmp"},
        {"S98Range", "FROM busybox\nEXPOSE 90-80\n", "invalid containerPort: 90-80"},
        {"S98Ip", "FROM busybox\nEXPOSE 1.2.3:80:80\n", "invalid IP address: 1.2.3"},
        {"Signal", "FROM busybox\nSTOPSIGNAL SIGNOPE\n", "invalid signal: SIGNOPE"},
        {"SignalZero", "FROM busybox\nSTOPSIGNAL 0\n", "invalid signal: 0"},
        {"S48Missing", "FROM nowhere\n",
         "nowhere: failed to resolve source metadata for docker.io/library/nowhere:latest: "
         "docker.io/"},
        {"S48Hint", "FROM alpin\n", "(did you mean alpine?)"},
        {"S117", "FROM busybox\nCOPY a /\n", "illegal exclusion pattern: \"!\"", {{"ignore", "!"}}},
        {"S124",
         "FROM busybox\n",
         "conflicting config: returning multiple target platforms is not allowed",
         {{"platform", "linux/amd64,linux/arm64"}, {"multi-platform", "false"}}},
        {"S129",
         "FROM busybox\n",
         "invalid SOURCE_DATE_EPOCH: nonsense",
         {{"build-arg:SOURCE_DATE_EPOCH", "nonsense"}}},
        {"S131",
         "FROM scratch AS src\nCOPY a /\nFROM busybox\n",
         "does not meet source-only requirements: unsupported COPY instruction",
         {{"build-arg:SOURCE_DATE_EPOCH", "src"}}},
        {"S134", "# check=error=true\nFROM busybox as x\n",
         "lint violation found for rules: FromAsCasing"},
        {"S141Request",
         "FROM busybox\n",
         "unsupported request frontend.nope",
         {{"requestid", "frontend.nope"}}},
        {"S141Cap",
         "FROM busybox\n",
         "unsupported frontend capability x.y",
         {{"frontend.caps", "moby.buildkit.frontend.inputs,x.y"}}},
        {"Options",
         "FROM busybox\n",
         "invalid image-resolve-mode: x",
         {{"image-resolve-mode", "x"}}},
        {"OptionsHosts",
         "FROM busybox\n",
         "failed to parse additional hosts: failed to parse IP x",
         {{"add-hosts", "a=x"}}},
        {"OptionsUlimit",
         "FROM busybox\n",
         "failed to parse ulimit: invalid ulimit type: nope",
         {{"ulimit", "nope=1"}}},
        {"OptionsMemory",
         "FROM busybox\n",
         "failed to parse resource limits: invalid memory value: 0: must be > 0",
         {{"memory", "0"}}},
        {"OptionsNetwork", "FROM busybox\n", "invalid netmode x", {{"force-network-mode", "x"}}},
        {"OptionsPlatform",
         "FROM busybox\n",
         "failed to parse target platform a/b/c/d",
         {{"platform", "a/b/c/d"}}},
        {"OptionsAttest", "FROM busybox\n", "unknown attestation type \"x\"", {{"attest:x", ""}}},
        {"OptionsSbom",
         "FROM busybox\n",
         "failed to parse sbom scanner UPPER",
         {{"attest:sbom", "generator=UPPER"}}},
        {"OptionsCopyImage",
         "FROM busybox\n",
         "support for \"override-copy-image\" was removed",
         {{"override-copy-image", "x"}}},
        {"ContextSpecifier",
         "FROM busybox\n",
         "invalid context specifier x for busybox",
         {{"context:busybox", "x"}}},
        {"ContextSource",
         "FROM busybox\n",
         "unsupported context source ftp for busybox",
         {{"context:busybox", "ftp:x"}}},
        {"ContextInput",
         "FROM busybox\n",
         "invalid input i for busybox",
         {{"context:busybox", "input:i"}}},
        {"ContextDigest",
         "FROM busybox\n",
         "has no digest",
         {{"context:busybox", "oci-layout://store:tag"}}},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(FrontendFixture, S6LintOfTheLinesBeforeIsStillReported) {
  EXPECT_FALSE(Build("FROM busybox as x\nMAINTAINER me\nRUN a\nBADCMD\n").ok());
  EXPECT_THAT(Warnings(),
              testing::ElementsAre(HasSubstr("FromAsCasing"), HasSubstr("MaintainerDeprecated")));
}

// Also what the faulty instruction itself has of them.
TEST_F(FrontendFixture, LintOfTheFaultyLineIsReported) {
  EXPECT_FALSE(Build("FROM busybox as X y\n").ok());
  EXPECT_THAT(Warnings(), testing::ElementsAre("FromAsCasing: 'as' and 'FROM' keywords' casing do "
                                               "not match (line 1)"));
  EXPECT_FALSE(Build("FROM busybox as 1X\n").ok());
  EXPECT_THAT(Warnings(), testing::Contains(HasSubstr("Stage name '1X' should be lowercase")));
  EXPECT_FALSE(Build("FROM busybox\nMAINTAINER --x me\n").ok());
  EXPECT_THAT(Warnings(), testing::Contains(HasSubstr("MaintainerDeprecated")));
  EXPECT_FALSE(Build("FROM busybox\nLABEL a=$b${c?no}\n").ok());
  EXPECT_THAT(Warnings(), testing::IsSupersetOf({HasSubstr("variable '$b' (line 2)"),
                                                 HasSubstr("variable '$c' (line 2)")}));
}

std::vector<std::string> SourceDetails(const absl::Status& status) {
  std::vector<std::string> details;
  for (const StatusDetail& detail : Details(status)) {
    if (detail.type_url == kSourceDetail) details.push_back(detail.value);
  }
  return details;
}

TEST_F(FrontendFixture, S8ErrorsCarryTheLinesOfTheirInstruction) {
  const auto result = Build("FROM busybox\nCOPY --from=invalid foo bar\n");
  ASSERT_FALSE(result.ok());
  const auto details = SourceDetails(result.status());
  ASSERT_EQ(details.size(), 1u);
  EXPECT_THAT(details[0], HasSubstr(R"("filename":"Dockerfile")"));
  EXPECT_THAT(details[0], HasSubstr(R"("language":"Dockerfile")"));
  EXPECT_THAT(details[0], HasSubstr(R"("start":{"line":2)"));
}

TEST_F(FrontendFixture, S32AGivenArgumentNeedsNoDefault) {
  client_.options["build-arg:FOO"] = "x";
  EXPECT_TRUE(Build("ARG FOO=${FOO:?\"custom error\"}\nFROM busybox\n").ok());
}

TEST_F(FrontendFixture, S40TheMissingArgumentIsFoundToo) {
  EXPECT_FALSE(Build("FROM --platform=$BULIDPLATFORM busybox\n").ok());
  EXPECT_THAT(Warnings(),
              testing::ElementsAre("UndefinedArgInFrom: FROM argument 'BULIDPLATFORM' is not "
                                   "declared (did you mean BUILDPLATFORM?) (line 1)"));
}

TEST_F(FrontendFixture, S45EdgesOfACycleAreShownWhereLastSaid) {
  const auto result = Build("FROM busybox AS a\nCOPY --from=a f /\nCOPY --from=a g /\n");
  ASSERT_FALSE(result.ok());
  const auto details = SourceDetails(result.status());
  ASSERT_EQ(details.size(), 1u);
  EXPECT_THAT(details[0], HasSubstr(R"("start":{"line":3)"));
}

TEST_F(FrontendFixture, ImagesThatAMountNamesAreMissedAtTheInstruction) {
  const auto result = Build("FROM busybox\nRUN --mount=from=nosuch,target=/b x\n");
  ASSERT_FALSE(result.ok());
  const auto details = SourceDetails(result.status());
  ASSERT_EQ(details.size(), 1u);
  EXPECT_THAT(details[0], HasSubstr(R"("start":{"line":2)"));
}

TEST_F(FrontendFixture, FindingsOfImagesThatAMountNamesHaveNoLine) {
  client_.options["platform"] = "linux/arm64";
  ASSERT_TRUE(Build("FROM scratch\nRUN --mount=from=busybox,target=/b x\n").ok());
  ASSERT_EQ(client_.Warnings().size(), 1u);
  EXPECT_TRUE(client_.Warnings()[0].second.ranges.empty());
  EXPECT_THAT(Warnings()[0], testing::EndsWith("for current build"));
}

TEST_F(FrontendFixture, S107TriggerErrorsAreShownAtTheFrom) {
  const auto result = Build("FROM busybox AS p\nONBUILD COPY --chmod=99 a b\nFROM p\nRUN x\n");
  ASSERT_FALSE(result.ok());
  const auto details = SourceDetails(result.status());
  ASSERT_EQ(details.size(), 1u);
  EXPECT_THAT(details[0], HasSubstr(R"("start":{"line":3)"));
}

TEST_F(FrontendFixture, S141WhatIsLackingIsNamedInTypedDetails) {
  client_.options["requestid"] = "frontend.nope";
  EXPECT_THAT(Details(Build("FROM busybox\n").status()),
              testing::Contains(testing::AllOf(
                  testing::Field(&StatusDetail::type_url, kSubrequestDetail),
                  testing::Field(&StatusDetail::value, R"({"name":"frontend.nope"})"))));
  client_.options = {{"frontend.caps", "moby.buildkit.frontend.inputs,x.y"}};
  EXPECT_THAT(
      Details(Build("FROM busybox\n").status()),
      testing::Contains(testing::AllOf(testing::Field(&StatusDetail::type_url, kFrontendCapDetail),
                                       testing::Field(&StatusDetail::value, R"({"name":"x.y"})"))));
}

TEST_F(FrontendFixture, SubrequestErrorsCarryNoLines) {
  client_.options["requestid"] = "frontend.outline";
  const auto result = Build("FROM nowhere\n");
  ASSERT_FALSE(result.ok());
  EXPECT_TRUE(SourceDetails(result.status()).empty());
}

}  // namespace
}  // namespace kiln::daemon
