// Graphs and configs of builds that succeed, by the numbers of the statements (dockerfile.md 9).
#include <gmock/gmock.h>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/daemon/frontend/dockerfile/frontend_fixture.h"

namespace kiln::daemon {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

using GraphTest = FrontendFixture;

TEST_F(GraphTest, S9ByteOrderMarkIsNoPartOfTheDirective) {
  ASSERT_TRUE(Build("\xef\xbb\xbf# check=skip=all\nFROM busybox as x\n").ok());
  EXPECT_THAT(Warnings(), IsEmpty());
}

TEST_F(GraphTest, S18WhatIsNoArrayRunsInTheShell) {
  EXPECT_EQ(Config(Build("FROM busybox\nENTRYPOINT []random string\n"))["Entrypoint"],
            nlohmann::json({"/bin/sh", "-c", "[]random string"}));
}

TEST_F(GraphTest, S20And22InlineFilesAreExpandedUnlessQuoted) {
  ASSERT_TRUE(
      Build("FROM busybox\nENV name=world\nCOPY <<A <<\"B\" <<'C' /d/\nhi ${name} \"q\"\nA\n"
            "hi ${name}\nB\nhi ${name}\nC\n")
          .ok());
  std::map<std::string, std::string> files;
  for (const pb::Op& op : Files()) {
    if (!op.file().actions(0).has_mkfile()) continue;
    files[op.file().actions(0).mkfile().path()] = op.file().actions(0).mkfile().data();
  }
  EXPECT_EQ(files["/A"], "hi world \"q\"\n");
  EXPECT_EQ(files["/B"], "hi ${name}\n");
  EXPECT_EQ(files["/C"], "hi ${name}\n");
}

TEST_F(GraphTest, S24AShellGetsTheBodyAsItsProgram) {
  ASSERT_TRUE(Build("FROM busybox\nSHELL [\"/bin/awk\"]\nRUN <<EOF\nBEGIN {}\nEOF\n").ok());
  EXPECT_THAT(Args(Execs()[0]), ElementsAre("/bin/awk", "BEGIN {}\n"));
}

TEST_F(GraphTest, S28AllValuesOfAnEnvSeeTheVariablesBeforeIt) {
  ASSERT_TRUE(Build("FROM busybox\nENV abc=hello\nENV abc=bye def=$abc\nRUN x\n").ok());
  EXPECT_THAT(Env(Execs()[0]), Contains("def=hello"));
}

TEST_F(GraphTest, S29ALegacyValueIsTheRestOfTheLine) {
  const auto result = Build("FROM busybox\nENV x a \"b c\"\nRUN x\n");
  EXPECT_THAT(Env(Execs()[0]), Contains("x=a b c"));
  EXPECT_THAT(Config(result)["Env"], Contains("x=a b c"));
}

TEST_F(GraphTest, S30And31ArgumentsSeeEarlierOnes) {
  ASSERT_TRUE(
      Build("ARG a2=box\nARG a3=\"$a2-foo\"\nFROM busybox\nARG a=1 b=$a\nARG a3\nRUN x\n").ok());
  EXPECT_THAT(Env(Execs()[0]), Contains("b=1"));
  EXPECT_THAT(Env(Execs()[0]), Contains("a3=box-foo"));
}

TEST_F(GraphTest, S33DefaultsThatAreNotUsedAreNotEvaluated) {
  client_.options["build-arg:BAR"] = "x";
  EXPECT_TRUE(Build("FROM busybox\nARG BAR=${FOO:?needed}\n").ok());
}

TEST_F(GraphTest, S34AnEmptyValueIsAValue) {
  ASSERT_TRUE(Build("FROM busybox\nARG FOO\nARG BAR=\nRUN x\n").ok());
  EXPECT_THAT(Env(Execs()[0]), Contains("BAR="));
  EXPECT_THAT(Env(Execs()[0]), Not(Contains(StartsWith("FOO"))));
}

TEST_F(GraphTest, S35ProxyIsNoPartOfTheEnvironment) {
  client_.options["build-arg:HTTP_PROXY"] = "upper";
  client_.options["build-arg:http_proxy"] = "lower";
  const auto result = Build("FROM busybox\nRUN x\n");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(Execs()[0].exec().meta().proxy_env().http_proxy(), "lower");
  EXPECT_THAT(Env(Execs()[0]), Not(Contains(HasSubstr("proxy"))));
  EXPECT_EQ(History(result).back(), "RUN /bin/sh -c x # buildkit");
}

TEST_F(GraphTest, S36TargetStageIsVisibleOnceDeclared) {
  const char file[] = "FROM busybox AS foo\nRUN a\nARG TARGETSTAGE\nRUN b\nFROM foo\n";
  client_.options["target"] = "foo";
  ASSERT_TRUE(Build(file).ok());
  EXPECT_THAT(Env(Execs()[0]), Not(Contains(StartsWith("TARGETSTAGE"))));
  EXPECT_THAT(Env(Execs()[1]), Contains("TARGETSTAGE=foo"));
  client_.options.erase("target");
  ASSERT_TRUE(Build(file).ok());
  EXPECT_THAT(Env(Execs()[1]), Contains("TARGETSTAGE=default"));
}

TEST_F(GraphTest, S38AStageForEachPlatform) {
  client_.options["platform"] = "linux/amd64,darwin/amd64";
  const auto result = Build(
      "FROM scratch AS stage-linux\nENV os=l\nFROM scratch AS stage-darwin\nENV os=d\nFROM "
      "stage-$TARGETOS\n");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(Image(result, "/linux/amd64")["config"]["Env"].dump(), HasSubstr("os=l"));
  EXPECT_THAT(Image(result, "/darwin/amd64")["config"]["Env"].dump(), HasSubstr("os=d"));
}

TEST_F(GraphTest, S42NamesOfStagesHaveNoCase) {
  client_.options["target"] = "Stage1";
  EXPECT_TRUE(
      Build("FROM busybox AS STAge0\nRUN x\nFROM busybox AS stage1\nCOPY --from=staGE0 a b\n")
          .ok());
}

TEST_F(GraphTest, S47ASourceImageMakesTheOnlyStageOneOfTwo) {
  ASSERT_TRUE(Build("FROM busybox\nCOPY --from=alpine /etc/passwd /\n").ok());
  EXPECT_THAT(Names(), Contains("[stage-0 2/2] COPY --from=alpine /etc/passwd /"));
  EXPECT_THAT(Names(), Contains(StartsWith("FROM docker.io/library/alpine:latest@")));
}

TEST_F(GraphTest, S48WhatIsNotNeededIsNotLookedAt) {
  ASSERT_TRUE(Build("FROM nowhere AS lost\nRUN false\nFROM busybox\nRUN x\n").ok());
  EXPECT_EQ(client_.Requests().size(), 1u);
}

TEST_F(GraphTest, S49AStageHidesAnImageOfItsName) {
  ASSERT_TRUE(
      Build("FROM busybox AS golang\nRUN x\nFROM busybox\nCOPY --from=golang /a /b\n").ok());
  EXPECT_EQ(client_.Requests().size(), 1u);
}

TEST_F(GraphTest, S50StepsAreNamedAfterTheirStage) {
  ASSERT_TRUE(Build("FROM busybox AS base\nWORKDIR /w\nRUN echo a > f\nFROM scratch\nCOPY "
                    "--from=base /w/f /\n")
                  .ok());
  EXPECT_THAT(Names(), testing::UnorderedElementsAre(
                           StartsWith("[base 1/3] FROM docker.io/library/busybox:latest@sha256:"),
                           "[base 2/3] WORKDIR /w", "[base 3/3] RUN echo a > f",
                           "[stage-1 1/1] COPY --from=base /w/f /"));
}

TEST_F(GraphTest, S51NumbersHaveTheSameWidth) {
  std::string file = "FROM busybox\n";
  for (int i = 0; i < 11; ++i) file += "RUN x\n";
  ASSERT_TRUE(Build(file).ok());
  EXPECT_THAT(Names(), Contains("[ 2/12] RUN x"));
}

TEST_F(GraphTest, S52SecretsAreMaskedInNames) {
  ASSERT_TRUE(Build("FROM busybox\nENV SECRET_ENV=foo\nRUN --mount=type=secret,id=t,env=SECRET_ENV "
                    "echo $SECRET_ENV $OTHER\n")
                  .ok());
  EXPECT_THAT(Names(), Contains(HasSubstr("echo **** $OTHER")));
  EXPECT_EQ(Execs()[0].exec().secretenv(0).name(), "SECRET_ENV");
}

TEST_F(GraphTest, S53TheRootNeedsNoStep) {
  const auto result = Build("FROM scratch\nWORKDIR /foo\nWORKDIR /\n");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(Files().size(), 1u);
  EXPECT_FALSE(Image(result)["history"][0].contains("empty_layer"));
  EXPECT_EQ(Image(result)["history"][1]["empty_layer"], true);
}

TEST_F(GraphTest, S55RelativeDirectories) {
  EXPECT_EQ(Config(Build("FROM busybox\nWORKDIR /test1\nWORKDIR test2\n"))["WorkingDir"],
            "/test1/test2");
  EXPECT_EQ(
      Config(Build("FROM busybox\nWORKDIR /test1\nWORKDIR test2\nWORKDIR ..\n"))["WorkingDir"],
      "/test1");
}

TEST_F(GraphTest, S56AnEmptyDestinationIsTheWorkingDirectory) {
  ASSERT_TRUE(Build("FROM busybox\nWORKDIR /w\nCOPY testfile $empty\n").ok());
  EXPECT_EQ(Files().back().file().actions(0).copy().dest(), "/w/");
}

TEST_F(GraphTest, S69And70LinksAreMergedUnlessTheModeChanges) {
  ASSERT_TRUE(Build("FROM busybox\nWORKDIR /w\nCOPY --link testfile .\n").ok());
  EXPECT_EQ(Ops([](const pb::Op& op) { return op.has_merge(); }).size(), 1u);
  EXPECT_EQ(Files().back().file().actions(0).copy().dest(), "/w/");
  ASSERT_TRUE(Build("FROM busybox\nCOPY --link --chmod=644 testfile .\n").ok());
  EXPECT_TRUE(Ops([](const pb::Op& op) { return op.has_merge(); }).empty());
  EXPECT_EQ(Files().back().file().actions(0).copy().mode(), 0644);
}

TEST_F(GraphTest, S68SymbolicModesArePassedOn) {
  ASSERT_TRUE(Build("FROM busybox\nCOPY --chmod=u=rwX,go=rX a /\n").ok());
  EXPECT_EQ(Files().back().file().actions(0).copy().modestr(), "u=rwX,go=rX");
}

TEST_F(GraphTest, S71And72ParentsHavePivots) {
  ASSERT_TRUE(Build("FROM busybox\nCOPY --parents a/b/./c*/d x/y /out/\n").ok());
  const pb::FileOp file = Files().back().file();
  EXPECT_EQ(file.actions(0).copy().src(), "/a/b");
  EXPECT_EQ(file.actions(0).copy().include_patterns(0), "c*/d");
  EXPECT_EQ(file.actions(0).copy().required_paths_size(), 0);
  EXPECT_EQ(file.actions(1).copy().src(), "/");
  EXPECT_EQ(file.actions(1).copy().required_paths(0), "/x/y");
}

TEST_F(GraphTest, S73PatternsAreNotExpanded) {
  ASSERT_TRUE(Build("FROM busybox\nENV p=x\nCOPY --exclude=*/*.png --exclude=$p . /\n").ok());
  EXPECT_THAT(Files().back().file().actions(0).copy().exclude_patterns(),
              ElementsAre("*/*.png", "$p"));
}

TEST_F(GraphTest, S76AUrlWithoutANameGivesAnUnnamedFile) {
  ASSERT_TRUE(Build("FROM busybox\nADD https://example.com/ /d/\n").ok());
  EXPECT_EQ(Files().back().file().actions(0).copy().src(), "/__unnamed__");
}

TEST_F(GraphTest, S79GitUrlsSayWhatToFetch) {
  ASSERT_TRUE(
      Build("FROM scratch\nADD https://a/r.git?branch=b&subdir=d&submodules=false&keep-git-dir /\n")
          .ok());
  const pb::SourceOp source = Sources().back().source();
  EXPECT_EQ(source.identifier(), "git://a/r.git#refs/heads/b:d");
  EXPECT_EQ(source.attrs().at("git.skipsubmodules"), "true");
  EXPECT_EQ(source.attrs().at("git.keepgitdir"), "true");
}

TEST_F(GraphTest, S86CacheMountsAreExpanded) {
  client_.options["build-arg:BUILDKIT_CACHE_MOUNT_NS"] = "ns";
  ASSERT_TRUE(
      Build("FROM busybox\nARG id=k\nENV dir=/c\nRUN --mount=type=cache,id=$id,target=$dir x\n")
          .ok());
  const pb::Mount mount = Execs()[0].exec().mounts(1);
  EXPECT_EQ(mount.cacheopt().id(), "ns/k");
  EXPECT_EQ(mount.dest(), "/c");
}

TEST_F(GraphTest, S94AStepDecidesOnItsNetwork) {
  client_.options["force-network-mode"] = "host";
  ASSERT_TRUE(Build("FROM busybox\nRUN --network=none a\nRUN b\n").ok());
  EXPECT_EQ(Execs()[0].exec().network(), pb::NONE);
  EXPECT_EQ(Execs()[1].exec().network(), pb::HOST);
}

TEST_F(GraphTest, S95LimitsTravelBesideTheOp) {
  ASSERT_TRUE(Build("FROM busybox\nRUN a\n").ok());
  const std::string without = Execs()[0].SerializeAsString();
  client_.options["memory"] = "1048576";
  ASSERT_TRUE(Build("FROM busybox\nRUN a\n").ok());
  EXPECT_EQ(Execs()[0].SerializeAsString(), without);
  bool told = false;
  const pb::Definition graph = Graph();
  for (const auto& [digest, metadata] : graph.metadata()) {
    told |= metadata.linux_resources().memory() == 1048576;
  }
  EXPECT_TRUE(told);
}

TEST_F(GraphTest, S95OptionsReachEveryStep) {
  client_.options["cgroup-parent"] = "group";
  client_.options["hostname"] = "host";
  client_.options["add-hosts"] = "Some=1.2.3.4";
  ASSERT_TRUE(Build("FROM busybox\nRUN a\nRUN b\n").ok());
  for (const pb::Op& exec : Execs()) {
    EXPECT_EQ(exec.exec().meta().cgroupparent(), "group");
    EXPECT_EQ(exec.exec().meta().hostname(), "host");
    ASSERT_EQ(exec.exec().meta().extrahosts_size(), 1);
    EXPECT_EQ(exec.exec().meta().extrahosts(0).host(), "some");
  }
}

TEST_F(GraphTest, S97And98PortsAreListed) {
  const auto result = Build(
      "FROM busybox\nARG PORTS=\"3000 4000/udp\"\nEXPOSE $PORTS\nEXPOSE 127.0.0.1:80:80 "
      "[::1]:8080:8080 5000:5000\n");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Config(result)["ExposedPorts"].dump(),
            R"({"3000/tcp":{},"4000/udp":{},"5000/tcp":{},"80/tcp":{},"8080/tcp":{}})");
  const auto found = [](const char* port) {
    return absl::StrCat(
        "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port "
        "mapping, found '",
        port, "' (line 4)");
  };
  EXPECT_THAT(Warnings(),
              testing::UnorderedElementsAre(found("127.0.0.1:80:80"), found("[::1]:8080:8080"),
                                            found("5000:5000")));
}

TEST_F(GraphTest, S99AnEntrypointDropsTheBaseCommand) {
  const auto result = Build(
      "FROM busybox AS base\nCMD my base command\nFROM base\nSHELL [\"ls\"]\nENTRYPOINT my "
      "entrypoint\n");
  EXPECT_EQ(Config(result)["Entrypoint"], nlohmann::json({"ls", "my entrypoint"}));
  EXPECT_FALSE(Config(result).contains("Cmd"));
}

TEST_F(GraphTest, S102HistoryListsArgumentsOnce) {
  const auto result = Build("FROM busybox\nARG foo=bar\nARG bar=123\nARG foo=bar2\nRUN ls\n");
  EXPECT_EQ(History(result).back(), "RUN |2 foo=bar2 bar=123 /bin/sh -c ls # buildkit");
}

TEST_F(GraphTest, S103LabelsOfTheCallerComeLast) {
  client_.options["label:bar"] = "baz";
  const auto result = Build("FROM busybox\nLABEL foo=bar\n");
  EXPECT_EQ(Config(result)["Labels"].dump(), R"({"bar":"baz","foo":"bar"})");
  EXPECT_EQ(History(result).size(), 1u);
}

TEST_F(GraphTest, S104AnImageWithoutFiles) {
  const auto result = Build("FROM scratch\nENV foo=bar\n");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->ref, "");
  EXPECT_EQ(Image(result)["rootfs"]["diff_ids"], nullptr);
  EXPECT_EQ(Config(result)["WorkingDir"], "/");
  EXPECT_EQ(Config(result)["Env"],
            nlohmann::json(
                {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "foo=bar"}));
  EXPECT_EQ(History(result), std::vector<std::string>{"ENV foo=bar"});
}

TEST_F(GraphTest, S105TriggersRunOnceInTheChild) {
  client_.AddImage("parent", R"("OnBuild":["RUN touch /trigger"])");
  const auto result = Build("FROM parent AS child\nFROM child\nRUN x\n");
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(Execs().size(), 2u);
  EXPECT_THAT(Args(Execs()[0]), ElementsAre("/bin/sh", "-c", "touch /trigger"));
  EXPECT_FALSE(Config(result).contains("OnBuild"));
  EXPECT_THAT(Names(), Contains("[child 2/2] ONBUILD RUN touch /trigger"));
}

TEST_F(GraphTest, S107TriggersPullInWhatTheyNeed) {
  client_.AddImage("parent", R"("OnBuild":["COPY --from=alpine /a /b","COPY --from=other /c /d"])");
  const auto result = Build("FROM busybox AS other\nRUN y\nFROM parent\nRUN x\n");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(client_.Requests().size(), 3u);
  EXPECT_EQ(Files().size(), 2u);
}

TEST_F(GraphTest, S108And110ContextsStandForImages) {
  client_.options["context:busybox"] = "docker-image://alpine";
  client_.options["context:unused"] = "docker-image://nowhere";
  ASSERT_TRUE(Build("FROM busybox\nRUN x\n").ok());
  EXPECT_THAT(Env(Execs()[0]), ElementsAre("PATH=/alpine"));
  EXPECT_EQ(Sources()[0].source().identifier(), "docker-image://docker.io/library/alpine:latest");
}

TEST_F(GraphTest, SecretsAreNamedByTheirTarget) {
  ASSERT_TRUE(Build("FROM busybox\nRUN --mount=type=secret,target=/m/ x\n").ok());
  EXPECT_EQ(Execs()[0].exec().mounts(1).secretopt().id(), "m");
  EXPECT_EQ(Execs()[0].exec().mounts(1).dest(), "/m/");
  ASSERT_TRUE(Build("FROM busybox\nRUN --mount=type=secret,id=a/b/ x\n").ok());
  EXPECT_EQ(Execs()[0].exec().mounts(1).dest(), "/run/secrets/b");
}

TEST_F(GraphTest, S109ContextsReplaceStages) {
  client_.options["context:base"] = "docker-image://alpine";
  ASSERT_TRUE(Build("FROM nowhere AS base\nRUN a\nFROM base\nRUN b\n").ok());
  EXPECT_EQ(Execs().size(), 1u);
  EXPECT_THAT(Env(Execs()[0]), ElementsAre("PATH=/alpine"));
}

TEST_F(GraphTest, S111LocalContextsSendWhatIsNeeded) {
  client_.options["context:other"] = "local:dir";
  client_.locals["dir"][".dockerignore"] = "b*\n";
  ASSERT_TRUE(Build("FROM scratch\nCOPY --from=other /foo /\n").ok());
  const auto attrs = Sources()[0].source().attrs();
  EXPECT_EQ(attrs.at("local.followpaths"), R"(["foo"])");
  EXPECT_EQ(attrs.at("local.excludepatterns"), R"(["b*"])");
  EXPECT_EQ(attrs.at("local.sharedkeyhint"), "context:other-");
  ASSERT_TRUE(Build("FROM other\nRUN x\n").ok());
  EXPECT_EQ(Sources()[0].source().attrs().count("local.followpaths"), 0u);
}

TEST_F(GraphTest, S112InputsBringTheirConfig) {
  ASSERT_TRUE(Build("FROM alpine\nRUN x\n").ok());
  const std::string graph = client_.Solves().back().definition;
  const pb::Op before = Execs()[0];
  client_.definitions["base"] = graph;
  client_.options["context:base::linux/amd64"] = "input:base";
  // {"config":{"Env":["FROM=input"]},"architecture":"amd64","os":"linux"}
  client_.options["input-metadata:base"] =
      R"({"containerimage.config":"eyJjb25maWciOnsiRW52IjpbIkZST009aW5wdXQiXX0sImFyY2hpdGVjdHVyZSI6ImFtZDY0Iiwib3MiOiJsaW51eCJ9"})";
  const auto result = Build("FROM base\nRUN y\n");
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(Execs().size(), 2u);
  EXPECT_EQ(Execs()[0].SerializeAsString(), before.SerializeAsString());
  EXPECT_THAT(Env(Execs()[1]), Contains("FROM=input"));
}

TEST_F(GraphTest, S112EachPlatformTakesItsOwnInput) {
  for (const std::string arch : {"amd64", "arm64"}) {
    ASSERT_TRUE(Build(absl::StrCat("FROM alpine\nRUN made for ", arch, "\n")).ok());
    client_.definitions["of-" + arch] = client_.Solves().back().definition;
    client_.options[absl::StrCat("context:base::linux/", arch)] = "input:of-" + arch;
    client_.options["input-metadata:of-" + arch] = nlohmann::json{
        {"containerimage.config",
         absl::Base64Escape(
             absl::StrCat(R"({"config":{"Env":["ARCH=)", arch, R"("]},"architecture":")", arch,
                          R"(","os":"linux"})"))}}.dump();
  }
  client_.options["platform"] = "linux/arm64,linux/amd64";
  const size_t before = client_.Solves().size();
  ASSERT_TRUE(Build("FROM base\nRUN y\n").ok());
  const auto solves = client_.Solves();
  std::map<std::string, std::string> made;  // by what the step on top sees
  for (size_t i = before; i < solves.size(); ++i) {
    pb::Definition graph;
    ASSERT_TRUE(graph.ParseFromString(solves[i].definition));
    std::string lower, arch;
    for (const std::string& bytes : graph.def()) {
      pb::Op op;
      ASSERT_TRUE(op.ParseFromString(bytes));
      if (!op.has_exec()) continue;
      if (absl::StartsWith(Args(op).back(), "made for ")) lower = Args(op).back();
      for (const std::string& variable : Env(op))
        if (absl::StartsWith(variable, "ARCH=")) arch = variable;
    }
    if (!arch.empty()) made[arch] = lower;
  }
  EXPECT_EQ(made, (std::map<std::string, std::string>{{"ARCH=amd64", "made for amd64"},
                                                      {"ARCH=arm64", "made for arm64"}}));
}

TEST_F(GraphTest, S113LayoutsOfTheClient) {
  const std::string digest = Digest::Of("layout").ToString();
  client_.options["context:base"] = absl::StrCat("oci-layout://store@", digest);
  FrontendClient::Image image = client_.images.begin()->second;
  client_.images[absl::StrCat("docker.io/library/base@", digest)] = image;
  const auto result = Build("FROM base\nRUN y\n");
  ASSERT_TRUE(result.ok()) << result.status();
  const pb::SourceOp source = Sources()[0].source();
  EXPECT_EQ(source.identifier(), absl::StrCat("oci-layout://docker.io/library/base@", digest));
  EXPECT_EQ(source.attrs().at("oci.store"), "store");
}

TEST_F(GraphTest, S116TheFileBesideTheDockerfileWins) {
  client_.options["filename"] = "Dockerfile2";
  client_.locals["dockerfile"]["Dockerfile2"] = "FROM scratch\nCOPY . /\n";
  client_.locals["dockerfile"]["Dockerfile2.dockerignore"] = "/a/../b\n# c\n";
  client_.locals["context"][".dockerignore"] = "x\n";
  ASSERT_TRUE(frontend_.Run(client_).ok());
  EXPECT_EQ(Sources()[0].source().attrs().at("local.excludepatterns"), R"(["b"])");
}

TEST_F(GraphTest, S118TheLowerCaseNameIsFoundToo) {
  client_.options["filename"] = "Dockerfile";
  client_.locals["dockerfile"]["dockerfile"] = "FROM scratch\nCOPY a /\n";
  EXPECT_TRUE(frontend_.Run(client_).ok());
}

TEST_F(GraphTest, S119ADownloadIsAnArchiveOrTheDockerfile) {
  client_.options["context"] = "http://host/f";
  client_.options["filename"] = "bogus";
  client_.url_files["http://host/f"] = "FROM scratch\nCOPY context /\n";
  ASSERT_TRUE(frontend_.Run(client_).ok());
  EXPECT_EQ(Sources()[0].source().identifier(), "http://host/f");
}

TEST_F(GraphTest, S121GitContexts) {
  client_.options["context"] = "https://host/r.git#branch:sub";
  client_.options["dockerfilekey"] = "dockerfile";
  ASSERT_TRUE(Build("FROM scratch\nCOPY a /\n").ok());
  const pb::SourceOp source = Sources()[0].source();
  EXPECT_EQ(source.identifier(), "git://host/r.git#branch:sub");
  EXPECT_EQ(source.attrs().count("git.keepgitdir"), 0u);
  client_.options["build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR"] = "1";
  ASSERT_TRUE(Build("FROM scratch\nCOPY a /\n").ok());
  EXPECT_EQ(Sources()[0].source().attrs().at("git.keepgitdir"), "true");
}

TEST_F(GraphTest, S123ShellsOfSystems) {
  client_.options["platform"] = "windows/amd64,linux/amd64";
  const auto result = Build("FROM scratch\nENTRYPOINT foo bar\n");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Image(result, "/windows/amd64")["config"]["Entrypoint"],
            nlohmann::json({"cmd", "/S", "/C", "foo bar"}));
  EXPECT_FALSE(Image(result, "/windows/amd64")["config"].contains("Env"));
  EXPECT_EQ(Image(result, "/linux/amd64")["config"]["Entrypoint"],
            nlohmann::json({"/bin/sh", "-c", "foo bar"}));
  EXPECT_THAT(Image(result, "/linux/amd64")["config"]["Env"].dump(), StartsWith("[\"PATH=/"));
}

TEST_F(GraphTest, S125And145OnePlatformMayBeAMap) {
  client_.options["build-arg:BUILDKIT_MULTI_PLATFORM"] = "true";
  const auto result = Build("FROM scratch\n");
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->is_map);
  EXPECT_EQ(result->refs, (std::map<std::string, std::string>{{"linux/amd64", ""}}));
}

TEST_F(GraphTest, S126NoCacheMarksStages) {
  const auto marked = [this] {
    int count = 0;
    const pb::Definition graph = Graph();
    for (const auto& [digest, metadata] : graph.metadata()) count += metadata.ignore_cache();
    return count;
  };
  const char file[] = "FROM busybox AS s1\nRUN a\nFROM s1\nRUN b\n";
  client_.options["no-cache"] = "";
  ASSERT_TRUE(Build(file).ok());
  EXPECT_EQ(marked(), 2);
  client_.options["no-cache"] = "S1";
  ASSERT_TRUE(Build(file).ok());
  EXPECT_EQ(marked(), 1);
}

TEST_F(GraphTest, S128To130Epochs) {
  const char file[] = "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN x\n";
  client_.options["build-arg:SOURCE_DATE_EPOCH"] = "1600000000";
  auto result = Build(file);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->metadata.at("source.date.epoch"), "1600000000");
  ASSERT_EQ(Image(result)["history"].size(), 2u);
  for (const auto& item : Image(result)["history"])
    EXPECT_EQ(item["created"], "2020-09-13T12:26:40Z") << item;
  result = Build(absl::StrCat("ARG SOURCE_DATE_EPOCH=5\n", file));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->metadata.at("source.date.epoch"), "1600000000") << "it wins over the default";
  client_.options.erase("build-arg:SOURCE_DATE_EPOCH");
  result = Build(absl::StrCat("ARG SOURCE_DATE_EPOCH=5\n", file));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->metadata.at("source.date.epoch"), "5");
  // "context" of a client's directory says nothing.
  client_.options["build-arg:SOURCE_DATE_EPOCH"] = "context";
  result = Build(file);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->metadata.count("source.date.epoch"), 0u);
  EXPECT_THAT(Env(Execs()[0]), Not(Contains(StartsWith("SOURCE_DATE_EPOCH"))));
  client_.options["build-arg:SOURCE_DATE_EPOCH"] = "src";
  client_.source_facts.changed_unix_seconds = 7;
  result = Build(absl::StrCat("FROM scratch AS src\nADD https://h/a.tar /\n", file));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->metadata.at("source.date.epoch"), "7");
  EXPECT_THAT(Env(Execs()[0]), Contains("SOURCE_DATE_EPOCH=7"));
}

TEST_F(GraphTest, S130TheTimeOfACommit) {
  client_.options["context"] = "https://host/r.git#branch";
  client_.options["dockerfilekey"] = "dockerfile";
  client_.options["build-arg:SOURCE_DATE_EPOCH"] = "context";
  client_.source_facts.changed_unix_seconds = 9;
  const auto result = Build("FROM busybox\nRUN x\n");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->metadata.at("source.date.epoch"), "9");
  EXPECT_EQ(Image(result)["history"][0]["created"], "1970-01-01T00:00:09Z");
}

// A server that tells no time may serve an archive whose newest file does.
TEST_F(GraphTest, S130TheTimeOfADownloadedContext) {
  client_.options["context"] = "http://host/c";
  client_.options["build-arg:SOURCE_DATE_EPOCH"] = "context";
  const auto entry = [](const std::string& name, const std::string& bytes, int64_t time) {
    std::string header(512, '\0');
    name.copy(header.data(), 100);
    const auto put = [&](size_t at, const std::string& text) { text.copy(&header[at], 12); };
    put(100, "0000644");
    put(124, absl::StrFormat("%011o", bytes.size()));
    put(136, absl::StrFormat("%011o", time));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar  ");
    unsigned sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    put(148, absl::StrFormat("%06o", sum));
    return header + bytes + std::string((512 - bytes.size() % 512) % 512, '\0');
  };
  client_.url_files["http://host/c"] =
      entry("a", "x", 3000) + entry("b", "x", 2000) + std::string(1024, '\0');
  client_.options["dockerfilekey"] = "dockerfile";
  const char file[] = "FROM scratch\nCOPY a /\n";
  auto result = Build(file);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->metadata.at("source.date.epoch"), "3000");
  client_.source_facts.changed_unix_seconds = 42;
  result = Build(file);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->metadata.at("source.date.epoch"), "42");
}

TEST_F(GraphTest, S147NeededPathsAreExact) {
  ASSERT_TRUE(Build("FROM busybox\nCOPY a* b/ /d/\n").ok());
  EXPECT_EQ(Sources().back().source().attrs().at("local.followpaths"), R"(["a*","b"])");
}

// The client's directory travels as soon as it is known which paths are needed: by the very op that
// the graph has, or it would travel twice.
TEST_F(GraphTest, TheContextIsBegunByItsOpInTheGraph) {
  const auto begun = [&]() -> std::string {
    pb::Definition definition;
    definition.ParseFromString(client_.Prefetched().back());
    return definition.def(0);
  };
  ASSERT_TRUE(Build("FROM busybox\nCOPY a /\nFROM busybox AS unused\nCOPY b /\nFROM busybox\n"
                    "COPY --from=0 a /\nCOPY d c /\n")
                  .ok());
  EXPECT_THAT(begun(), HasSubstr(R"(["a","c","d"])"));
  EXPECT_THAT(Graph().def(), Contains(begun()));
  client_.options["platform"] = "linux/amd64,linux/arm64";
  ASSERT_TRUE(Build("FROM scratch\nCOPY . /\n").ok());
  EXPECT_THAT(Graph().def(), Contains(begun()));
  EXPECT_THAT(begun(), Not(HasSubstr("followpaths")));
  const size_t before = client_.Prefetched().size();
  ASSERT_TRUE(Build("FROM busybox\nRUN x\n").ok());
  EXPECT_EQ(client_.Prefetched().size(), before + 2) << "the Dockerfile and .dockerignore";
}

TEST_F(GraphTest, PlatformOfABaseImageThatIsOnlyThere) {
  client_.platforms = {"linux/arm64"};
  const auto result = Build("FROM busybox\nRUN x\n");
  ASSERT_TRUE(result.ok());
  EXPECT_THAT(Warnings(),
              ElementsAre(HasSubstr("InvalidBaseImagePlatform: Base image busybox was pulled with "
                                    "platform \"linux/amd64\", expected \"linux/arm64\"")));
}

// The platform of a stage counts, not the build's; variants may differ; "scratch" and other stages
// are of every platform.
TEST_F(GraphTest, PlatformsOfBaseImagesThatAreRight) {
  for (const char* file :
       {"FROM busybox\nRUN x\n", "FROM --platform=linux/amd64/v3 busybox\nRUN x\n",
        "FROM --platform=linux/arm64 scratch\nCOPY a /\n",
        "FROM busybox AS a\nFROM --platform=linux/arm64 a\nRUN x\n"}) {
    const auto result = Build(file);
    ASSERT_TRUE(result.ok()) << file << result.status();
    EXPECT_THAT(Warnings(), Not(Contains(HasSubstr("InvalidBaseImagePlatform")))) << file;
  }
  client_.platforms = {"linux/arm64"};
  const auto result = Build("FROM --platform=linux/amd64 busybox\nRUN x\n");
  ASSERT_TRUE(result.ok());
  EXPECT_THAT(Warnings(), Not(Contains(HasSubstr("InvalidBaseImagePlatform"))));
}

}  // namespace
}  // namespace kiln::daemon
