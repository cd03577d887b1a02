// What commands and inline files become when they run: here-documents, shells, variables
// (dockerfile.md 9, by number).

#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "proto/status_details.h"
#include "tests/integration/dockerfile_fixture.h"

namespace kiln::integration {
namespace {

using testing::HasSubstr;
using testing::Not;

using DockerfileTextTest = DockerfileTest;

TEST_F(DockerfileTextTest, S7AFailingStepIsShownLineByLine) {
  const auto run = Try("FROM busybox\nRUN wh\\\nat\n");
  EXPECT_THAT(std::string(run->status.message()),
              HasSubstr("process \"/bin/sh -c what\" did not complete successfully: "
                        "exit code: 127"));
  std::vector<nlohmann::json> sources;
  for (const StatusDetail& detail : Details(run->status))
    if (detail.type_url == kSourceDetail) sources.push_back(nlohmann::json::parse(detail.value));
  ASSERT_EQ(sources.size(), 1u);
  EXPECT_EQ(sources[0]["info"]["filename"], "Dockerfile");
  EXPECT_EQ(sources[0]["info"]["language"], "Dockerfile");
  ASSERT_EQ(sources[0]["ranges"].size(), 2u);
  EXPECT_EQ(sources[0]["ranges"][0]["start"]["line"], 2);
  EXPECT_EQ(sources[0]["ranges"][1]["start"]["line"], 3);
  EXPECT_THAT(run->StepLike("RUN what").log, HasSubstr("what: not found"));
}

TEST_F(DockerfileTextTest, S17WhatIsNoArrayIsRunByTheShell) {
  const auto run = Try("FROM busybox\nRUN [\"echo\",\"hello\"]this is invalid\n");
  ASSERT_FALSE(run->status.ok());
  EXPECT_THAT(std::string(run->status.message()),
              HasSubstr(R"("/bin/sh -c [\"echo\",\"hello\"]this is invalid")"));
}

TEST_F(DockerfileTextTest, S20To23InlineFiles) {
  const auto run = Make(R"(FROM busybox AS base
ENV name=world
COPY <<one <<two /double/
first ${name}
one
second
two
COPY <<E /bs1
\
E
COPY <<E /bs2
\\
E
COPY <<E /bs3
\$
E
COPY <<"E" /qs1
\
E
COPY <<'E' /qs2
\\
E
COPY <<"E" /qs3
\$
E
COPY <<"E" /quotes
"a" '${name}'
E
COPY <<E /open
"a" '${name}'
E
COPY <<-EOF /tabs
	one
		two
	EOF
RUN <<-EOF
	echo one > /plain
	cat > /inner <<X
	kept
	X
	EOF
RUN <<-EOF
	#!/bin/sh
	echo shebang > /shebang
	EOF
RUN cat <<-EOF | cat - > /piped
	by the shell
	EOF
FROM scratch
COPY --from=base /double /double
COPY --from=base /bs1 /bs2 /bs3 /qs1 /qs2 /qs3 /quotes /open /tabs /plain /inner /shebang /piped /
)");
  EXPECT_EQ(run->File("double/one"), "first world\n");
  EXPECT_EQ(run->File("double/two"), "second\n");
  EXPECT_EQ(run->File("bs1"), "\n");
  EXPECT_EQ(run->File("bs2"), "\\\n");
  EXPECT_EQ(run->File("bs3"), "$\n");
  EXPECT_EQ(run->File("qs1"), "\\\n");
  EXPECT_EQ(run->File("qs2"), "\\\\\n");
  EXPECT_EQ(run->File("qs3"), "\\$\n");
  EXPECT_EQ(run->File("quotes"), "\"a\" '${name}'\n");
  EXPECT_EQ(run->File("open"), "\"a\" 'world'\n");
  EXPECT_EQ(run->File("tabs"), "one\ntwo\n");
  EXPECT_EQ(run->File("plain"), "one\n");
  EXPECT_EQ(run->File("inner"), "kept\n");
  EXPECT_EQ(run->File("shebang"), "shebang\n");
  EXPECT_EQ(run->File("piped"), "by the shell\n");
}

TEST_F(DockerfileTextTest, S24And25ShellsReadBodies) {
  const auto run = Make(R"(FROM busybox AS base
RUN cat <<A | tr '[a-z]' '[A-Z]' > /out1; cat <<B | tr '[A-Z]' '[a-z]' > /out2
Hello ${HOME:+home}
A
World
B
RUN 3<<IN1 4<<IN2 cat /dev/fd/3 /dev/fd/4 > /out3
first
IN1
second
IN2
SHELL ["/bin/awk"]
RUN <<EOF
BEGIN { print "awk" > "/out4" }
EOF
FROM scratch
COPY --from=base /out1 /out2 /out3 /out4 /
)");
  EXPECT_EQ(run->File("out1"), "HELLO HOME\n");
  EXPECT_EQ(run->File("out2"), "world\n");
  EXPECT_EQ(run->File("out3"), "first\nsecond\n");
  EXPECT_EQ(run->File("out4"), "awk\n");
}

TEST_F(DockerfileTextTest, S27And105And107PushedTriggersRunInTheChild) {
  Input push;
  push.push = "parent";
  Make(R"(FROM busybox
ONBUILD RUN <<EOF
echo trigger >> /trigger
EOF
ONBUILD COPY --from=other /file /from-stage
ONBUILD RUN --mount=type=bind,from=other,target=/m cp /m/file /from-mount
ONBUILD COPY --from=busybox /etc/passwd /from-image
)",
       push);
  EXPECT_THAT(PushedConfig("parent"), HasSubstr("OnBuild"));
  Input child;
  child.push = "child";
  const std::string file = "FROM busybox AS other\nRUN echo stage > /file\nFROM parent AS main\n";
  Make(file, child);
  EXPECT_THAT(PushedConfig("child"), Not(HasSubstr("OnBuild")));
  auto run = Make(
      absl::StrCat(file, "FROM main AS next\nFROM scratch\nCOPY --from=next /trigger /from-* /\n"));
  EXPECT_EQ(run->File("trigger"), "trigger\n") << "once, also for a stage of the stage";
  EXPECT_EQ(run->File("from-stage"), "stage\n");
  EXPECT_EQ(run->File("from-mount"), "stage\n");
  EXPECT_THAT(run->File("from-image"), HasSubstr("root:x:0:0"));
  run = Make("FROM child AS c\nFROM scratch\nCOPY --from=c /trigger /\n");
  EXPECT_EQ(run->File("trigger"), "trigger\n") << "nor in a grandchild";
}

TEST_F(DockerfileTextTest, S106TriggersOfAStageRunInItsChildren) {
  const auto run = Make(R"(FROM busybox AS base
ONBUILD RUN echo here > /trigger
RUN test ! -e /trigger
FROM base AS child
FROM scratch
COPY --from=child /trigger /
)");
  EXPECT_EQ(run->File("trigger"), "here\n");
}

TEST_F(DockerfileTextTest, S34And36And37VariablesOfSteps) {
  Input input;
  input.attrs["platform"] = "darwin/ppc64le";
  input.attrs["build-arg:TARGETOS"] = "freebsd";
  const auto run = Make(R"(FROM --platform=$BUILDPLATFORM busybox AS build
ARG FOO
ARG BAR=
RUN env > /env
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETSTAGE
RUN echo "$TARGETPLATFORM $TARGETOS $TARGETARCH $TARGETSTAGE" > /target
FROM scratch AS last
COPY --from=build /env /target /
)",
                        input);
  EXPECT_THAT(run->File("env"), HasSubstr("BAR=\n"));
  EXPECT_THAT(run->File("env"), Not(HasSubstr("FOO")));
  EXPECT_THAT(run->File("env"), Not(HasSubstr("TARGET")));
  EXPECT_EQ(run->File("target"), "darwin/ppc64le freebsd ppc64le last\n");
}

TEST_F(DockerfileTextTest, S35ProxiesAreNoPartOfTheCache) {
  const char file[] = R"(FROM busybox AS base
ARG FOO
RUN echo "$http_proxy" > /proxy; head -c 16 /dev/urandom | md5sum > /unique
FROM scratch
COPY --from=base /proxy /unique /
)";
  Input input;
  input.attrs["build-arg:http_proxy"] = "one.test";
  const auto first = Make(file, input);
  EXPECT_EQ(first->File("proxy"), "one.test\n");
  input.attrs["build-arg:http_proxy"] = "two.test";
  const auto second = Make(file, input);
  EXPECT_EQ(second->File("proxy"), "one.test\n");
  EXPECT_EQ(second->File("unique"), first->File("unique"));
  input.attrs["build-arg:FOO"] = "x";
  const auto third = Make(file, input);
  EXPECT_EQ(third->File("proxy"), "two.test\n");
  EXPECT_NE(third->File("unique"), first->File("unique"));
}

TEST_F(DockerfileTextTest, S39And42And47And49And50Stages) {
  Input input;
  input.attrs["build-arg:image"] = "idlebox";
  auto run = Make(R"(ARG image
FROM busy${image#idle} AS STAge0
WORKDIR /w
RUN echo stage0 > f
FROM scratch AS Stage1
COPY --from=staGE0 /w/f /
)",
                  input);
  EXPECT_EQ(run->File("f"), "stage0\n");
  // S50: what is shown.
  run->StepLike("[stage0 1/3] FROM docker.io/library/busybox:latest@sha256:");
  EXPECT_TRUE(run->StepLike("[stage0 3/3] RUN echo stage0 > f").completed);
  run->StepLike("[stage1 1/1] COPY --from=staGE0 /w/f /");
  input.attrs["target"] = "sTaGe1";
  EXPECT_TRUE(Make("FROM busybox AS other\nRUN false\nFROM scratch AS stage1\nFROM other\n", input)
                  ->status.ok());

  run = Make("FROM scratch\nCOPY --from=busybox /etc/passwd /\n");
  EXPECT_THAT(run->File("passwd"), HasSubstr("root:x:0:0"));
  run->StepLike("[stage-0 1/1] COPY --from=busybox /etc/passwd /");

  run = Make("FROM busybox AS golang\nRUN echo mine > /x\nFROM scratch\nCOPY --from=golang /x /\n");
  EXPECT_EQ(run->File("x"), "mine\n");
}

TEST_F(DockerfileTextTest, S52SecretsAreNotShown) {
  TempDir dir;
  dir.Write("s", "secret-value");
  Input input;
  ASSERT_TRUE(input.secrets.Add(absl::StrCat("id=tok,src=", dir.path(), "/s")).ok());
  const auto run = Make(R"(FROM busybox
ENV SECRET_ENV=foo
RUN --mount=type=secret,id=tok,env=SECRET_ENV echo "$SECRET_ENV" | md5sum
)",
                        input);
  const std::string sum = Output({"sh", "-c", "echo secret-value | md5sum"});
  EXPECT_THAT(run->StepLike("echo \"****\"").log, HasSubstr(sum.substr(0, 32)));
  for (const auto& [name, seen] : run->seen.steps()) {
    EXPECT_THAT(name, Not(HasSubstr("secret-value")));
    EXPECT_THAT(name, Not(HasSubstr("echo \"foo\"")));
  }
}

TEST_F(DockerfileTextTest, S96And101ConfigsAndHistory) {
  Input push;
  push.push = "entry";
  Make("FROM busybox\nENTRYPOINT [\"/bin/echo\", \"entrypoint\"]\nCMD [\"base\"]\n", push);
  auto run = Make("FROM entry AS e\nRUN [\"touch\", \"/r\"]\nFROM scratch\nCOPY --from=e /r /\n");
  EXPECT_TRUE(run->Has("r")) << "S96: the entrypoint does not matter to RUN";
  push.push = "history";
  Make(R"(FROM busybox
LABEL foo=bar
COPY --from=busybox /etc/passwd /p
WORKDIR /
RUN echo a > /a
RUN ["touch", "/b"]
EXPOSE 80
)",
       push);
  const auto base = nlohmann::json::parse(PushedConfig("busybox"))["history"];
  const auto history = nlohmann::json::parse(PushedConfig("history"))["history"];
  ASSERT_FALSE(base.empty());
  ASSERT_EQ(history.size(), base.size() + 6) << "S101: " << history;
  const struct {
    const char* created_by;
    bool empty;
  } added[] = {{"LABEL foo=bar", true},
               {"COPY /etc/passwd /p # buildkit", false},
               {"WORKDIR /", true},
               {"RUN /bin/sh -c echo a > /a # buildkit", false},
               {"RUN touch /b # buildkit", false},
               {"EXPOSE [80/tcp]", true}};
  for (size_t i = 0; i < history.size(); ++i) {
    if (i < base.size()) {
      EXPECT_EQ(history[i], base[i]) << "S101: what the base tells is kept";
      continue;
    }
    const auto& want = added[i - base.size()];
    EXPECT_EQ(history[i]["created_by"], want.created_by) << "S101";
    EXPECT_EQ(history[i].value("empty_layer", false), want.empty) << "S101: " << want.created_by;
    EXPECT_EQ(history[i]["comment"], "buildkit.dockerfile.v0") << "S101";
  }
}

TEST_F(DockerfileTextTest, S128And129TimesOfImages) {
  const auto build = [&](const char* file, Input input, const std::string& name) {
    input.push = name;
    Make(file, input);
    return nlohmann::json::parse(PushedConfig(name));
  };
  const size_t old = nlohmann::json::parse(PushedConfig("busybox"))["history"].size();
  const auto times_are = [&](const nlohmann::json& config, const std::string& want) {
    EXPECT_EQ(config["created"], want);
    for (size_t i = 0; i < config["history"].size(); ++i)
      EXPECT_EQ(config["history"][i]["created"] == want, i >= old) << config["history"][i];
  };
  const char file[] = "FROM busybox\nRUN true\nENV a=b\n";
  Input input;
  input.attrs["build-arg:SOURCE_DATE_EPOCH"] = "1600000000";
  times_are(build(file, input, "given"), "2020-09-13T12:26:40Z");
  const auto files =
      Make("FROM busybox AS a\nRUN echo x > /x\nFROM scratch\nCOPY --from=a /x /\n", input);
  struct stat made;
  ASSERT_EQ(::stat((files->out.path() + "/x").c_str(), &made), 0);
  EXPECT_EQ(made.st_mtime, 1600000000) << "E18";
  const char with_default[] = "ARG SOURCE_DATE_EPOCH=1500000000\nFROM busybox\nRUN true\nENV a=b\n";
  times_are(build(with_default, {}, "default"), "2017-07-14T02:40:00Z");
  times_are(build(with_default, input, "overridden"), "2020-09-13T12:26:40Z");
  // What the exporter itself would do is switched off by its attribute.
  input.export_attrs = {{"rewrite-timestamp", "true"}};
  const auto rewritten = [&] {
    TempDir dir;
    Input archive = input;
    archive.archive = dir.path() + "/image.tar";
    Make(with_default, archive);
    const std::string index = Output({"tar", "-xOf", archive.archive, "index.json"});
    const std::string manifest =
        nlohmann::json::parse(index)["manifests"][0]["digest"].get<std::string>();
    return Output({"tar", "-xOf", archive.archive, "blobs/sha256/" + manifest.substr(7)});
  };
  EXPECT_THAT(rewritten(), HasSubstr("\"buildkit/rewritten-timestamp\": \"1600000000\""));
  input.export_attrs["source-date-epoch"] = "";
  EXPECT_THAT(rewritten(), Not(HasSubstr("rewritten-timestamp")));
  times_are(build(with_default, input, "without"), "2020-09-13T12:26:40Z");
}

}  // namespace
}  // namespace kiln::integration
