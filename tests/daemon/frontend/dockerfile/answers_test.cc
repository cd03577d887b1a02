// Questions in place of builds, findings of the checks, and other frontends
// (dockerfile.md 4.8, 4.9, 7), with the numbers of the statements.
#include <gmock/gmock.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/external_syntax.h"
#include "proto/status_details.h"
#include "tests/daemon/frontend/dockerfile/frontend_fixture.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class AnswerTest : public FrontendFixture {
 protected:
  std::map<std::string, std::string> Ask(const std::string& id, const std::string& dockerfile) {
    client_.options["requestid"] = id;
    const auto result = Build(dockerfile);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? result->metadata : std::map<std::string, std::string>();
  }
};

TEST_F(AnswerTest, DescribeListsWhatThereIs) {
  auto answer = Ask("frontend.subrequests.describe", "FROM scratch\n");
  EXPECT_EQ(answer["version"], "1.0.0");
  EXPECT_EQ(answer["result.txt"],
            "NAME                 VERSION DESCRIPTION\n"
            "outline              1.0.0   List all parameters current build target supports\n"
            "targets              1.0.0   List all targets current build supports\n"
            "subrequests.describe 1.0.0   List available subrequest types\n");
  const nlohmann::json json = nlohmann::json::parse(answer["result.json"]);
  EXPECT_EQ(json[0]["opts"][0]["name"], "target");
  EXPECT_EQ(json[1]["opts"].dump(), "[]");
  EXPECT_EQ(json[2]["opts"], nullptr);
}

TEST_F(AnswerTest, S138OutlineGivesEffectiveValuesInOrder) {
  auto answer = Ask("frontend.outline",
                    "ARG middle=o\nARG inherited=b${middle}x\nARG suffix=\n# FOO defines foo\nARG "
                    "FOO=first\nFROM "
                    "busy${inherited}$suffix AS main\n# BAR is bar\nARG BAR=$FOO-x\nRUN x\n");
  const nlohmann::json json = nlohmann::json::parse(answer["result.json"]);
  EXPECT_EQ(json["name"], "main");
  std::vector<std::string> names;
  for (const auto& arg : json["args"]) names.push_back(arg["name"]);
  EXPECT_THAT(names, ElementsAre("middle", "inherited", "suffix", "BAR"));
  EXPECT_EQ(json["args"][3]["description"], "is bar");
  EXPECT_EQ(json["args"][3]["value"], "-x");
  EXPECT_EQ(json["args"][0]["location"]["ranges"][0]["start"]["line"], 1);
  EXPECT_EQ(answer["result.txt"],
            "TARGET: main\n\n"
            "BUILD ARG   VALUE   DESCRIPTION\n"
            "middle      o       \n"
            "inherited   box     \n"
            "suffix              \n"
            "BAR         -x      is bar\n\n");
}

TEST_F(AnswerTest, S139OutlineTellsSecretsOfWhatIsNeeded) {
  auto answer =
      Ask("frontend.outline",
          "FROM busybox AS unused\nRUN --mount=type=secret,id=never --mount=type=ssh,id=never "
          "x\nFROM busybox AS "
          "base\nARG BAR=2\nRUN --mount=type=secret,id=second${BAR},required x\nFROM "
          "base\nRUN --mount=type=ssh x\n");
  const nlohmann::json json = nlohmann::json::parse(answer["result.json"]);
  ASSERT_EQ(json["ssh"].size(), 1u);
  ASSERT_EQ(json["secrets"].size(), 1u);
  EXPECT_EQ(json["secrets"][0]["name"], "second2");
  EXPECT_EQ(json["secrets"][0]["required"], true);
  EXPECT_EQ(json["ssh"][0]["name"], "default");
}

TEST_F(AnswerTest, S140TargetsAreListedAsWritten) {
  auto answer = Ask("frontend.targets",
                    "# build defines stage for compiling the binary\nFROM alpine AS build\nRUN "
                    "true\n\nFROM busybox as second\nFROM --platform=$BUILDPLATFORM second\n");
  EXPECT_EQ(answer["result.txt"],
            "TARGET    DESCRIPTION\n"
            "build     defines stage for compiling the binary\n"
            "second    \n"
            "(default) \n");
  const nlohmann::json json = nlohmann::json::parse(answer["result.json"]);
  EXPECT_EQ(json["targets"][0]["base"], "alpine");
  EXPECT_EQ(json["targets"][2]["platform"], "$BUILDPLATFORM");
  EXPECT_EQ(json["targets"][2]["default"], true);
  EXPECT_EQ(json["targets"][1]["location"]["ranges"][0]["start"]["line"], 5);
}

TEST_F(AnswerTest, WithoutStagesThereAreNoTargets) {
  auto answer = Ask("frontend.targets", "ARG a=b\n");
  EXPECT_EQ(answer["result.txt"], "TARGET DESCRIPTION\n");
  EXPECT_EQ(nlohmann::json::parse(answer["result.json"])["targets"], nullptr);
}

TEST_F(AnswerTest, LintPrintsFindingsWithExcerpts) {
  auto answer = Ask("frontend.lint", "FROM busybox as b\nRUN x\n");
  EXPECT_EQ(answer["result.statuscode"], "1");
  EXPECT_EQ(answer["result.txt"],
            "\nWARNING: FromAsCasing - "
            "https://docs.docker.com/go/dockerfile/rule/from-as-casing/\n"
            "'as' and 'FROM' keywords' casing do not match\n"
            "Dockerfile:1\n--------------------\n"
            "   1 | >>> FROM busybox as b\n   2 |     RUN x\n   3 |     \n--------------------\n");
  const nlohmann::json json = nlohmann::json::parse(answer["result.json"]);
  EXPECT_EQ(json["warnings"][0]["ruleName"], "FromAsCasing");
  EXPECT_EQ(json["sources"][0]["filename"], "Dockerfile");
  const nlohmann::json& definition = json["sources"][0]["definition"];
  EXPECT_EQ(definition["def"].size(), 2u);
  ASSERT_EQ(definition["Source"]["locations"].size(), 1u);
  for (const auto& [digest, none] : definition["Source"]["locations"].items()) {
    EXPECT_TRUE(definition["metadata"][digest]["caps"].contains("source.local"));
    EXPECT_TRUE(none.empty());
  }
  EXPECT_THAT(Warnings(), IsEmpty());
}

TEST_F(AnswerTest, LintOfACleanFileIsNull) {
  auto answer = Ask("frontend.lint", "FROM scratch\n");
  EXPECT_EQ(answer["result.statuscode"], "0");
  EXPECT_EQ(answer["result.txt"], "");
  EXPECT_EQ(nlohmann::json::parse(answer["result.json"])["warnings"], nullptr);
}

TEST_F(AnswerTest, LintTellsWhyAFileCannotBeBuilt) {
  auto answer = Ask("frontend.lint", "FROM busybox\nCOPY --from=nowhere a b\n");
  EXPECT_EQ(answer["result.statuscode"], "1");
  const nlohmann::json json = nlohmann::json::parse(answer["result.json"]);
  EXPECT_THAT(json["buildError"]["message"].get<std::string>(), HasSubstr("nowhere"));
  EXPECT_EQ(json["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
}

TEST_F(AnswerTest, S136LintLooksAtAllStages) {
  const char file[] = "FROM busybox AS unused\nWORKDIR rel\nFROM busybox\nRUN x\n";
  ASSERT_TRUE(Build(file).ok());
  EXPECT_THAT(Warnings(), IsEmpty());
  auto answer = Ask("frontend.lint", file);
  EXPECT_THAT(answer["result.txt"], HasSubstr("WorkdirRelativePath"));
}

TEST_F(AnswerTest, ConvertedGraphIsKeyedByDigest) {
  auto answer = Ask("frontend.convertllb", "FROM busybox\nRUN x\n");
  const nlohmann::json json = nlohmann::json::parse(answer["result.json"]);
  EXPECT_EQ(json["def"].size(), 3u);
  for (const auto& [digest, op] : json["metadata"].items()) {
    EXPECT_TRUE(json["def"].contains(digest)) << digest;
  }
  EXPECT_EQ(json["source"]["infos"][0]["filename"], "Dockerfile");
  EXPECT_EQ(json["source"]["locations"].size(), 2u);  // the last op is none of the file's
}

TEST_F(AnswerTest, ConvertedGraphIsTextAsProtobufHasIt) {
  auto answer = Ask("frontend.convertllb",
                    "FROM busybox\nCOPY --link <<a /b/\nx\na\nRUN --network=none echo '<é>'\n");
  std::map<std::string, nlohmann::json> ops;
  const nlohmann::json json = nlohmann::json::parse(answer["result.json"]);
  for (const auto& [digest, op] : json["def"].items()) {
    for (const char* kind : {"exec", "file", "merge"}) {
      if (op.contains(kind)) ops[kind] = op[kind];
      if (op.contains("file") && op["file"]["actions"][0].contains("mkfile")) ops["mkfile"] = op;
    }
  }
  EXPECT_EQ(ops["exec"]["meta"]["args"], nlohmann::json({"/bin/sh", "-c", "echo '<é>'"}));
  EXPECT_EQ(ops["exec"]["network"], "NONE");
  EXPECT_EQ(ops["merge"]["inputs"][1]["input"], "1");
  EXPECT_EQ(ops["mkfile"]["file"]["actions"][0]["input"], "-1");
  EXPECT_EQ(ops["mkfile"]["file"]["actions"][0]["mkfile"]["data"], "eAo=");
  EXPECT_EQ(ops["mkfile"]["file"]["actions"][0]["mkfile"]["timestamp"], "-1");
  // Members in the order of their declaration, and `<` as Go escapes it.
  EXPECT_THAT(answer["result.json"], HasSubstr("echo '\\u003cé\\u003e'"));
  EXPECT_LT(answer["result.json"].find("\"com.docker.dockerfile.v1.command\""),
            answer["result.json"].find("\"llb.customname\""));
}

struct LintCase {
  const char* rule;
  int line;
  const char* bad;
  const char* message;
  const char* good;
};

// "StageNameCasing" is told about at …/stage-name-casing/.
std::string UrlOf(const std::string& rule) {
  std::string key;
  for (size_t i = 0; i < rule.size(); ++i) {
    const bool starts =
        absl::ascii_isupper(rule[i]) && (i == 0 || absl::ascii_islower(rule[i - 1]) ||
                                         (i + 1 < rule.size() && absl::ascii_islower(rule[i + 1])));
    if (starts && i > 0) key += '-';
    key += absl::ascii_tolower(rule[i]);
  }
  return absl::StrCat("https://docs.docker.com/go/dockerfile/rule/", key, "/");
}

class LintRuleTest : public FrontendFixture, public testing::WithParamInterface<LintCase> {};

TEST_P(LintRuleTest, S135FiresOnlyWhereItShould) {
  const LintCase& param = GetParam();
  client_.locals["context"][".dockerignore"] = "ignored\n";
  ASSERT_TRUE(Build(param.bad).ok());
  EXPECT_THAT(Warnings(), testing::Contains(absl::StrCat(param.rule, ": ", param.message, " (line ",
                                                         param.line, ")")));
  for (const auto& [vertex, warning] : client_.Warnings()) {
    if (absl::StartsWith(warning.short_text, absl::StrCat(param.rule, ":"))) {
      EXPECT_EQ(warning.url, UrlOf(param.rule));
    }
  }
  FakeClient clean;
  clean.AddImage("busybox");
  clean.locals["context"][".dockerignore"] = "ignored\n";
  clean.locals["dockerfile"]["Dockerfile"] = param.good;
  ASSERT_TRUE(frontend_.Run(clean).ok());
  for (const auto& [vertex, warning] : clean.Warnings()) {
    EXPECT_THAT(warning.short_text, testing::Not(HasSubstr(param.rule)));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Rules, LintRuleTest,
    testing::ValuesIn<LintCase>({
        {"StageNameCasing", 1, "FROM busybox AS Big\n", "Stage name 'Big' should be lowercase",
         "FROM busybox AS big\n"},
        {"FromAsCasing", 1, "from busybox AS x\n", "'AS' and 'from' keywords' casing do not match",
         "From busybox AS x\n"},
        {"NoEmptyContinuation", 4, "FROM busybox\nRUN a \\\n\n  b\n", "Empty continuation line",
         "FROM busybox\nRUN a \\\n# c\n  b\n"},
        {"ConsistentInstructionCasing", 3, "FROM busybox\nRUN a\nrun b\n",
         "Command 'run' should match the case of the command majority (uppercase)",
         "from busybox\nrun b\n"},
        {"DuplicateStageName", 2, "FROM busybox AS a\nFROM busybox AS a\n",
         "Duplicate stage name \"a\", stage names should be unique",
         "FROM busybox AS a\nFROM busybox AS b\n"},
        {"ReservedStageName", 1, "FROM busybox AS context\n",
         "Stage name should not use the same name as reserved stage \"context\"",
         "FROM busybox AS ctx\n"},
        {"JSONArgsRecommended", 2, "FROM busybox\nCMD a\n",
         "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
         "FROM busybox\nSHELL [\"sh\"]\nCMD a\n"},
        {"MaintainerDeprecated", 2, "FROM busybox\nMAINTAINER m\n",
         "Maintainer instruction is deprecated in favor of using label",
         "FROM busybox\nLABEL m=m\n"},
        {"UndefinedArgInFrom", 2, "ARG base=busybox\nFROM busybox${bas}\n",
         "FROM argument 'bas' is not declared (did you mean base?)",
         "ARG base\nFROM busybox${base}\n"},
        {"UndefinedVar", 2, "FROM busybox\nCOPY $PAHT /x\n",
         "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
         "FROM busybox\nARG x\nCOPY a$x /x\n"},
        {"WorkdirRelativePath", 2, "FROM busybox\nWORKDIR rel\n",
         "Relative workdir \"rel\" can have unexpected results if the base image changes",
         "FROM busybox\nWORKDIR /\nWORKDIR rel\n"},
        {"MultipleInstructionsDisallowed", 2, "FROM busybox\nCMD [\"a\"]\nCMD [\"b\"]\n",
         "Multiple CMD instructions should not be used in the same stage because only the last one "
         "will be used",
         "FROM busybox AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n"},
        {"LegacyKeyValueFormat", 2, "FROM busybox\nENV key value\n",
         "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
         "FROM busybox\nENV key=value\n"},
        {"RedundantTargetPlatform", 1, "FROM --platform=$TARGETPLATFORM busybox\n",
         "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the "
         "default "
         "behavior",
         "FROM --platform=$BUILDPLATFORM busybox\n"},
        {"SecretsUsedInArgOrEnv", 2, "FROM busybox\nENV GITHUB_TOKEN=x\n",
         "Do not use ARG or ENV instructions for sensitive data (ENV \"GITHUB_TOKEN\")",
         "FROM busybox\nENV TOKEN_FILE=x PUBLIC_KEY=y MONKEY=z\n"},
        {"FromPlatformFlagConstDisallowed", 1, "FROM --platform=linux/amd64 busybox AS x\n",
         "FROM --platform flag should not use constant value \"linux/amd64\"",
         "FROM --platform=linux/amd64 busybox AS x-amd64\n"},
        {"CopyIgnoredFile", 2, "FROM busybox\nCOPY ignored /\n",
         "Attempting to Copy file \"ignored\" that is excluded by .dockerignore",
         "FROM busybox\nCOPY . /\n"},
        {"InvalidDefinitionDescription", 4,
         "# check=experimental=all\n\n# something\nFROM busybox AS x\n",
         "Comment for FROM should follow the format: `# x <description>`",
         "# check=experimental=all\n\n# x is x\nFROM busybox AS x\n"},
        {"ExposeProtoCasing", 2, "FROM busybox\nEXPOSE 80/TCP\n",
         "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
         "FROM busybox\nEXPOSE 80/tcp\n"},
        {"ExposeInvalidFormat", 2, "FROM busybox\nEXPOSE 80:80\n",
         "EXPOSE instruction should not define an IP address or host-port mapping, found '80:80'",
         "FROM busybox\nEXPOSE 80\n"},
    }),
    [](const auto& test) { return std::string(test.param.rule); });

TEST_F(AnswerTest, S135DefaultsOfBasesMustBeNames) {
  client_.options["build-arg:base"] = "busybox";
  ASSERT_TRUE(Build("ARG base\nFROM $base\nRUN x\n").ok());
  EXPECT_THAT(Warnings(),
              ElementsAre("InvalidDefaultArgInFrom: Default value for ARG $base results "
                          "in empty or invalid base image name (line 2)"));
}

TEST_F(AnswerTest, S132And133ChecksCanBeSkipped) {
  ASSERT_TRUE(Build("# check=skip=all;error=true\nFROM busybox as x\n").ok());
  EXPECT_THAT(Warnings(), IsEmpty());
  client_.options["build-arg:BUILDKIT_DOCKERFILE_CHECK"] = "skip=all";
  EXPECT_TRUE(Build("# check=error=true\nFROM busybox as x\n").ok());
  EXPECT_THAT(Warnings(), IsEmpty());
  client_.options["build-arg:BUILDKIT_DOCKERFILE_CHECK"] = "error=false";
  EXPECT_TRUE(Build("# check=skip=all;error=true\nFROM busybox as x\n").ok());
  EXPECT_THAT(Warnings(), ElementsAre(HasSubstr("FromAsCasing")));
}

TEST_F(AnswerTest, ACommentSkipsChecksOfItsInstruction) {
  ASSERT_TRUE(Build("FROM busybox\n# check=skip=WorkdirRelativePath\nWORKDIR a\nENV k v\n").ok());
  EXPECT_THAT(Warnings(), ElementsAre(HasSubstr("LegacyKeyValueFormat")));
}

TEST_F(AnswerTest, S137SeveralPlatformsFindThingsOnce) {
  client_.options["platform"] = "linux/amd64,linux/arm64";
  ASSERT_TRUE(Build("FROM scratch as x\nCOPY a /\n").ok());
  EXPECT_THAT(Warnings(), ElementsAre(HasSubstr("FromAsCasing")));
}

TEST(ExternalSyntax, BuiltInUpToItsVersion) {
  using dockerfile::IsBuiltIn;
  for (const char* image :
       {"docker/dockerfile", "docker/dockerfile:1", "docker/dockerfile:1.7",
        "docker/dockerfile:1.26", "docker.io/docker/dockerfile:1.4.0", "docker/dockerfile:1-labs",
        "docker/dockerfile-upstream:master", "docker/dockerfile-upstream:master-labs",
        "docker/dockerfile:latest", "dockerfile.v0"}) {
    EXPECT_TRUE(IsBuiltIn(image)) << image;
  }
  for (const std::string& image :
       {std::string("docker/dockerfile:1.27"), std::string("docker/dockerfile:2"),
        std::string("docker/dockerfile:nightly"), std::string("other/dockerfile:1"),
        std::string("ghcr.io/docker/dockerfile:1"),
        absl::StrCat("docker/dockerfile:1@", Digest::Of("x").ToString())}) {
    EXPECT_FALSE(IsBuiltIn(image)) << image;
  }
}

TEST_F(AnswerTest, OtherFrontendsAreAskedWithAllOptions) {
  client_.options["target"] = "t";
  client_.nested = BridgeResult{false, "nested", {}, {}};
  const auto result = Build("# syntax=example.com/frontend:2 --flag\nnot a Dockerfile\n");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->ref, "nested");
  const FrontendClient::Solve solve = client_.Solves().back();
  EXPECT_EQ(solve.frontend, "gateway.v0");
  EXPECT_EQ(solve.frontend_opts.at("source"), "example.com/frontend:2");
  EXPECT_EQ(solve.frontend_opts.at("cmdline"), "example.com/frontend:2 --flag");
  EXPECT_EQ(solve.frontend_opts.at("target"), "t");
}

TEST_F(AnswerTest, S142ACmdlineEndsTheForwarding) {
  client_.options["cmdline"] = "x";
  EXPECT_TRUE(Build("# syntax=example.com/frontend\nFROM busybox\nRUN x\n").ok());
}

TEST_F(AnswerTest, S143AMissingFrontendIsShownAtTheDirective) {
  client_.nested = absl::NotFoundError("no such image");
  const auto result = Build("# syntax=example.com/frontend\nFROM busybox\n");
  ASSERT_FALSE(result.ok());
  const auto detail = result.status().GetPayload(kSourceDetail);
  ASSERT_TRUE(detail.has_value());
  EXPECT_THAT(std::string(*detail), HasSubstr(R"("start":{"line":1)"));
}

TEST_F(AnswerTest, ASyntaxBuildArgIsNamedInItsError) {
  client_.nested = absl::NotFoundError("no such image");
  client_.options["build-arg:BUILDKIT_SYNTAX"] = "example.com/f";
  EXPECT_THAT(std::string(Build("FROM busybox\n").status().message()),
              HasSubstr("failed with build-arg:BUILDKIT_SYNTAX = example.com/f: no such image"));
}

TEST_F(AnswerTest, AMissingCapabilityMayBeElsewhere) {
  client_.options["frontend.caps"] = "x.y+forward";
  EXPECT_FALSE(Build("FROM busybox\n").ok());
  EXPECT_TRUE(Build("# syntax=example.com/frontend\nFROM busybox\n").ok());
}

}  // namespace
}  // namespace kiln::daemon
