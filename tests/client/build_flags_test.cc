// Each flag of `kiln build`, and what it makes of the request.
#include "client/cli/build_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/bake_targets.h"
#include "client/cli/flag_values.h"
#include "client/session/oci_index.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "tests/store/temp_dir.h"

namespace kiln::client {
namespace {

using testing::HasSubstr;

// The request as text: attributes, exporters, caches, in order; what every build has is left out.
std::string Describe(const SolveOptions& options, const std::string& context) {
  std::string out;
  for (const auto& [key, value] : options.frontend_attrs)
    if (key != "filename" || value != "Dockerfile") absl::StrAppend(&out, key, "=", value, "\n");
  const auto entry = [&out](const char* what, const std::string& type, const auto& attrs) {
    absl::StrAppend(&out, what, " ", type);
    for (const auto& [key, value] : attrs) absl::StrAppend(&out, " ", key, "=", value);
  };
  for (const ExportRequest& output : options.outputs) {
    entry("output", output.type, output.attrs);
    absl::StrAppend(&out, output.target.path.empty() ? "" : " > ", output.target.path, "\n");
  }
  for (const CacheEntry& cache : options.cache_imports) {
    entry("import", cache.type, cache.attrs);
    out += "\n";
  }
  for (const CacheEntry& cache : options.cache_exports) {
    entry("export", cache.type, cache.attrs);
    out += "\n";
  }
  for (const auto& [name, dir] : options.local_dirs)
    if (dir != context) absl::StrAppend(&out, "dir ", name, "=", dir, "\n");
  for (const std::string& entitlement : options.entitlements)
    absl::StrAppend(&out, "allow ", entitlement, "\n");
  if (options.no_cache) out += "no cache\n";
  if (!options.secrets.empty()) out += "secrets\n";
  if (!options.ssh.empty()) out += "ssh\n";
  return absl::StrReplaceAll(out, {{context, "DIR"}});
}

struct Case {
  const char* name;
  const char* flags;  // DIR stands for a directory
  const char* want;   // or "!" and a part of the error
};
class BuildFlagsTest : public testing::TestWithParam<Case> {
 protected:
  BuildFlagsTest() {
    EXPECT_TRUE(WriteFileAtomic(dir_.path() + "/Dockerfile", "FROM scratch\n").ok());
    ::setenv("KILN_TEST_SECRET", "s", 1);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    absl::StrCat(dir_.path(), "/agent").copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(bind(agent_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  const Fd agent_{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  store::TempDir dir_;
};

TEST_P(BuildFlagsTest, Request) {
  CLI::App app;
  BuildFlags flags;
  AddBuildFlags(&app, &flags);
  app.parse(absl::StrReplaceAll(GetParam().flags, {{"DIR", dir_.path()}}));
  SolveOptions options;
  TextDockerfile text;
  std::unique_ptr<ImageLoader> loader;
  absl::Status status = FillBuildOptions(flags, /*stdout_is_terminal=*/true, &options);
  if (status.ok()) status = FillDockerfileBuild(dir_.path(), flags.docker, &text, &options);
  if (status.ok()) status = AddImageOutputs(flags, &loader, &options);
  if (GetParam().want[0] == '!') {
    EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().want + 1));
    return;
  }
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Describe(options, dir_.path()), GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(
    All, BuildFlagsTest,
    testing::ValuesIn<Case>({
        {"None", "", ""},
        {"Tag", "-t a:1 --tag b", "output image name=a:1,b\n"},
        {"TagOfAnArchive", "-t a -o type=oci,dest=x", "output oci name=a > x\n"},
        {"File", "-f x/web.Dockerfile", "filename=web.Dockerfile\ndir dockerfile=x\n"},
        {"FileAtAnAddress", "-f https://example.org/Dockerfile", "!needs a context from there"},
        {"BuildArg", "--build-arg A=1 --build-arg KILN_TEST_SECRET",
         "build-arg:A=1\nbuild-arg:KILN_TEST_SECRET=s\n"},
        {"Target", "--target web", "target=web\n"},
        {"Platform", "--platform linux/arm64 --platform linux/amd64",
         "platform=linux/arm64,linux/amd64\n"},
        {"Secret", "--secret id=a,env=KILN_TEST_SECRET", "secrets\n"},
        {"SecretMissing", "--secret id=a,src=/no/such/file",
         "!--secret id=a,src=/no/such/file: secret a: "},
        {"SecretBad", "--secret id=a,colour=red", "!--secret id=a,colour=red: unexpected colour"},
        {"SecretNameless", "--secret type=file", "!--secret type=file: it has no id="},
        {"Ssh", "--ssh default=DIR/agent", "ssh\n"},
        {"OutputFolder", "-o out", "output local > out\n"},
        {"OutputTerminal", "-o -", "!to a terminal"},
        {"OutputLayout", "-o type=oci,tar=false,dest=out", "output oci tar=false > out\n"},
        {"OutputLayoutNowhere", "-o type=oci,tar=false", "!tar=false needs dest=DIRECTORY"},
        {"OutputNone", "-o type=none", "output \n"},
        {"OutputCacheOnly", "-t a -o type=cacheonly", "output \n"},
        {"OutputInANewFolder", "-o type=tar,dest=DIR/n/m/x", "output tar > DIR/n/m/x\n"},
        {"OutputNowhere", "-o type=tar,dest=/proc/no/x",
         "!--output type=tar,dest=/proc/no/x: make directory /proc/no"},
        {"OutputFolderIsAFile", "-o DIR/Dockerfile", "!/Dockerfile is no directory"},
        {"Push", "-t r.org/a --push", "output image name=r.org/a push=true\n"},
        {"PushBesideAnArchive", "-t r.org/a --push -o type=oci,dest=x",
         "output oci name=r.org/a > x\noutput image name=r.org/a push=true\n"},
        {"PushNameless", "--push", "!--push needs a name"},
        {"CacheFrom", "--cache-from r.org/c --cache-from type=registry,ref=r.org/d",
         "import registry ref=r.org/c\nimport registry ref=r.org/d\n"},
        {"CacheFromLocalThatIsNotThere", "--cache-from type=local,src=DIR/none", ""},
        {"CacheTo", "--cache-to type=inline --cache-to type=local,dest=DIR/c,mode=max",
         "export inline\nexport local dest=DIR/c mode=max\n"},
        {"CacheToNowhere", "--cache-to type=local,dest=/proc/no/c",
         "!--cache-to type=local,dest=/proc/no/c: make directory"},
        {"CacheNeedsType", "--cache-to ref=x", "!--cache-to ref=x needs type="},
        {"NoCache", "--no-cache", "no cache\n"},
        {"NoCacheFilter", "--no-cache-filter a --no-cache-filter b", "no-cache=a,b\n"},
        {"ContextImage", "--build-context base=docker-image://alpine",
         "context:base=docker-image://alpine\n"},
        {"ContextFolder", "--build-context src=/usr", "context:src=local:src\ndir src=/usr\n"},
        {"ContextOfTheMainName", "--build-context context=/usr",
         "context:context=local:_context\ndir _context=/usr\n"},
        {"ContextLayoutMissing", "--build-context l=oci-layout:///no/such", "!no such directory"},
        {"Label", "--label a=b --label c= --label d", "label:a=b\nlabel:c=\nlabel:d=\n"},
        {"AddHost", "--add-host a:1.2.3.4 --add-host b=::1", "add-hosts=a=1.2.3.4,b=::1\n"},
        {"NetworkDefault", "--network default", ""},
        {"NetworkNone", "--network none", "force-network-mode=none\n"},
        {"NetworkHost", "--network host", "force-network-mode=host\nallow network.host\n"},
        {"Ulimit", "--ulimit nofile=1:2 --ulimit core=0", "ulimit=nofile=1:2,core=0\n"},
        {"ShmSize", "--shm-size 64m", "shm-size=67108864\n"},
        {"ShmSizeBytes", "--shm-size 1024", "shm-size=1024\n"},
        {"ShmSizeFraction", "--shm-size 1.5GiB", "shm-size=1610612736\n"},
        {"ShmSizeUnit", "--shm-size 2KB", "shm-size=2048\n"},
        {"ShmSizeNegative", "--shm-size=-1", "!--shm-size: \"-1\" is no size"},
        {"ShmSizeBadUnit", "--shm-size 1mx", "!--shm-size: \"1mx\" is no size"},
        {"ShmSizeBad", "--shm-size lots", "!--shm-size: \"lots\" is no size"},
        {"ShmSizeHuge", "--shm-size 99999999t", "!is no size"},
        {"CgroupParent", "--cgroup-parent /a", "cgroup-parent=/a\n"},
        {"Pull", "--pull", "image-resolve-mode=pull\n"},
        {"Check", "--check", "requestid=frontend.lint\n"},
        {"Call", "--call outline,format=json", "requestid=frontend.outline\n"},
        {"CallBuild", "--call build", ""},
        {"CallUnknown", "--call what", "!--call what: use build"},
        {"Provenance", "--provenance mode=max", "attest:provenance=mode=max\n"},
        {"ProvenanceOn", "--provenance true", "attest:provenance=\n"},
        {"ProvenanceOff", "--attest type=provenance,mode=max --provenance false", ""},
        {"Sbom", "--sbom generator=x", "attest:sbom=generator=x\n"},
        {"Attest", "--attest type=sbom,generator=x --attest type=provenance",
         "attest:provenance=\nattest:sbom=generator=x\n"},
        {"AttestDisabled", "--attest type=sbom --attest type=sbom,disabled=true", ""},
        {"AttestUnknown", "--attest type=what", "!use type=provenance or type=sbom"},
        {"Annotation",
         "-t a --annotation x=y --annotation index:org.a:b=c --annotation "
         "manifest[linux/amd64]:k=v",
         "output image annotation-index.org.a:b=c annotation-manifest.x=y "
         "annotation-manifest[linux/amd64].k=v name=a\n"},
        {"AnnotationOfSeveralTypes", "-t a --annotation index,manifest[linux/amd64]:k=v",
         "output image annotation-index.k=v annotation-manifest[linux/amd64].k=v name=a\n"},
        {"AnnotationBadType", "-t a --annotation manifests:k=v",
         "!--annotation manifests:k=v: TYPE is manifest, index"},
        {"AnnotationWithoutName", "-t a --annotation index:=v", "!must be [TYPE:]NAME=VALUE"},
        {"AnnotationBad", "-t a --annotation x", "!--annotation x must be [TYPE:]NAME=VALUE"},
        {"TagBad", "-t Bad/Name:1", "!--tag Bad/Name:1: use [HOST/]NAME[:TAG]"},
        {"TagBadPath", "-t r.org:5000/Name", "!in lower case"},
        {"TagWithoutTag", "-t a:", "!--tag a:: use"},
        {"TagOfAHostWithPort", "-t LOCAL:5000/a_b/c.d:V1",
         "output image name=LOCAL:5000/a_b/c.d:V1\n"},
        {"PlatformBad", "--platform linux/a/b/c", "!--platform linux/a/b/c: use OS/ARCH"},
        {"AddHostBad", "--add-host db=here", "!--add-host db=here: use NAME=IP"},
        {"AddHostGateway", "--add-host gw:host-gateway", "!host-gateway: the daemon's machine"},
        {"AddHostV6", "--add-host db:[::1]", "add-hosts=db=[::1]\n"},
        {"UlimitBad", "--ulimit nofile=9:2", "!--ulimit nofile=9:2: use NAME=SOFT[:HARD]"},
        {"UlimitUnknown", "--ulimit files=9", "!--ulimit files=9: there is no limit of that name"},
        {"UlimitEndless", "--ulimit nofile=5:-1", "ulimit=nofile=5:-1\n"},
        {"NetworkBad", "--network foo", "!--network foo: use default, none or host"},
        {"ProvenanceBad", "--provenance foo", "!--provenance foo: use true, false or mode"},
        {"ProvenanceModeBad", "--provenance mode=foo", "!--provenance mode=foo: use true"},
        {"AttestModeBad", "--attest type=provenance,mode=x", "!use mode=min or mode=max"},
        {"SbomBad", "--sbom foo", "!--sbom foo: use true, false or generator=IMAGE"},
        {"CallFormatBad", "--call check,format=xml", "!use format=json or format=text"},
        {"CacheModeBad", "--cache-to type=registry,ref=a,mode=x", "!use mode=min or mode=max"},
        {"CacheNeedsRef", "--cache-from type=registry", "!type=registry needs ref=NAME"},
        {"CacheNeedsDest", "--cache-to type=local", "!type=local needs dest=DIRECTORY"},
        {"AnnotationBadAlone", "--annotation x", "!--annotation x must be [TYPE:]NAME=VALUE"},
        {"CheckExportsNothing", "--check -t a --push --cache-to type=inline",
         "requestid=frontend.lint\n"},
        {"Allow", "--allow network.host", "allow network.host\n"},
        {"Opt", "--opt a=b", "a=b\n"},
        {"OptTwice", "--opt a=b --opt a=c", "!--opt a is given twice"},
        {"Local", "--local x=/usr", "dir x=/usr\n"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST(ResultFile, IsLookedAtBeforeTheBuild) {
  const store::TempDir dir;
  EXPECT_EQ(CheckResultFile("--iidfile", ""), absl::OkStatus());
  EXPECT_EQ(CheckResultFile("--iidfile", dir.path() + "/id"), absl::OkStatus());
  EXPECT_EQ(CheckResultFile("--iidfile", dir.path()).message(),
            absl::StrCat("--iidfile ", dir.path(), ": it is a directory"));
  EXPECT_EQ(
      CheckResultFile("--iidfile", dir.path() + "/a/id").message(),
      absl::StrCat("--iidfile ", dir.path(), "/a/id: there is no directory ", dir.path(), "/a"));
}

TEST(RemoteContext, TakesADockerfileOfThisMachineByItsWholePath) {
  for (const bool whole : {true, false}) {
    DockerfileFlags flags;
    flags.file = whole ? "/d/web.Dockerfile" : "d/web.Dockerfile";
    SolveOptions options;
    TextDockerfile text;
    ASSERT_EQ(FillDockerfileBuild("https://example.org/c.tar", flags, &text, &options),
              absl::OkStatus());
    EXPECT_EQ(options.frontend_attrs["filename"], whole ? "web.Dockerfile" : flags.file);
    EXPECT_EQ(options.frontend_attrs.count("dockerfilekey"), whole ? 1u : 0u);
    EXPECT_EQ(options.local_dirs["dockerfile"], whole ? "/d" : "");
  }
}

TEST(OciLayoutContext, IsFoundByItsTag) {
  const store::TempDir dir;
  const std::string digest = Digest::Of("a").ToString();
  const OciIndex index(dir.path());
  ASSERT_TRUE(index.Put(absl::StrCat(R"({"digest":")", digest, R"("})"), {{"one", true}}).ok());
  for (const std::string& suffix : {std::string(), std::string(":one"), "@" + digest}) {
    DockerfileFlags flags;
    flags.contexts = {absl::StrCat("l=oci-layout://", dir.path(), suffix)};
    SolveOptions options;
    TextDockerfile text;
    const absl::Status status = FillDockerfileBuild(dir.path(), flags, &text, &options);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(options.oci_layouts.size(), 1u);
    EXPECT_EQ(options.oci_layouts.begin()->second, dir.path());
    EXPECT_EQ(options.frontend_attrs["context:l"],
              absl::StrCat("oci-layout://", options.oci_layouts.begin()->first, "@", digest));
  }
}

// A target's attributes become the flags that `kiln build` would have had.
TEST(BakeTargetFlags, EveryAttributeHasItsFlag) {
  bake::Target target;
  target.texts = {{"context", "src"},
                  {"dockerfile", "x.Dockerfile"},
                  {"target", "t"},
                  {"network", "none"},
                  {"shm-size", "1m"},
                  {"call", "check"},
                  {"dockerfile-inline", "FROM scratch"}};
  target.flags = {{"pull", true}, {"no-cache", true}};
  target.lists = {{"tags", {"a", "b"}},
                  {"platforms", {"linux/amd64"}},
                  {"output", {"type=docker", "type=cacheonly", "type=local,dest=o"}},
                  {"cache-from", {"c"}},
                  {"cache-to", {"type=inline"}},
                  {"secret", {"id=s"}},
                  {"ssh", {"default"}},
                  {"attest", {"type=sbom"}},
                  {"annotations", {"k=v"}},
                  {"ulimits", {"core=0"}},
                  {"no-cache-filter", {"f"}},
                  {"entitlements", {"network.host"}}};
  target.maps = {{"args", {{"A", "1"}}},
                 {"labels", {{"l", "v"}}},
                 {"contexts", {{"base", "cwd://b"}, {"other", "target:x"}}},
                 {"extra-hosts", {{"h", "1.2.3.4"}}}};
  const auto made = FlagsOf(target);
  ASSERT_TRUE(made.ok()) << made.status();
  const DockerfileFlags& docker = made->docker;
  EXPECT_EQ(docker.file, "src/x.Dockerfile");
  EXPECT_EQ(docker.text, "FROM scratch");
  EXPECT_EQ(absl::StrCat(docker.target, docker.network, docker.shm_size, docker.call),
            "tnone1mcheck");
  EXPECT_TRUE(docker.pull && made->no_cache && made->load);
  using testing::ElementsAre;
  EXPECT_THAT(made->outputs, ElementsAre("type=cacheonly", "type=local,dest=o"));
  EXPECT_THAT(made->tags, ElementsAre("a", "b"));
  EXPECT_THAT(made->cache_from, ElementsAre("c"));
  EXPECT_THAT(made->cache_to, ElementsAre("type=inline"));
  EXPECT_THAT(made->secrets, ElementsAre("id=s"));
  EXPECT_THAT(made->ssh, ElementsAre("default"));
  EXPECT_THAT(made->annotations, ElementsAre("k=v"));
  EXPECT_THAT(made->allow, ElementsAre("network.host"));
  EXPECT_THAT(docker.attests, ElementsAre("type=sbom"));
  EXPECT_THAT(docker.build_args, ElementsAre("A=1"));
  EXPECT_THAT(docker.labels, ElementsAre("l=v"));
  EXPECT_THAT(docker.platforms, ElementsAre("linux/amd64"));
  EXPECT_THAT(docker.contexts, ElementsAre("base=b"));
  EXPECT_THAT(docker.add_hosts, ElementsAre("h=1.2.3.4"));
  EXPECT_THAT(docker.ulimits, ElementsAre("core=0"));
  EXPECT_THAT(docker.no_cache_filter, ElementsAre("f"));
}

TEST(BakeTargetFlags, EntitlementsAreAskedFor) {
  bake::Plan plan;
  plan.targets["a"].lists["entitlements"] = {"security.insecure"};
  EXPECT_THAT(std::string(PrepareTargets(plan, {}, false).status().message()),
              HasSubstr("target a: asks for security.insecure, which needs --allow"));
}

// What --print refuses: what docker looks at before it prints, and no more.
TEST(BakePlan, IsCheckedAsDockerDoesBeforeItPrints) {
  const store::TempDir dir;
  const std::string file = dir.path() + "/s", none = dir.path() + "/none";
  ASSERT_TRUE(WriteFileAtomic(file, "x", 0600).ok());
  unsetenv("SSH_AUTH_SOCK");
  const auto with_list = [](const char* list, const std::string& value) {
    bake::Plan plan;
    plan.targets["a"].lists[list] = {value};
    return CheckPlan(plan, false);
  };
  const auto with_text = [](const char* text, const std::string& value) {
    bake::Plan plan;
    plan.targets["a"].texts[text] = value;
    return CheckPlan(plan, false);
  };
  for (const absl::Status& refused :
       {with_list("secret", "id=x,src=" + none), with_list("secret", "src=" + file),
        with_list("ssh", "default"), with_list("ssh", "x=" + none),
        with_list("platforms", "linux/"), with_list("platforms", "linux/a b"),
        with_list("ulimits", "nofile"), with_list("output", "type=local"),
        with_list("output", "type=local,dest=" + file),
        with_list("output", "type=tar,dest=" + dir.path()), with_list("annotations", "x"),
        with_list("attest", "mode=max"), with_list("cache-from", "src=x"),
        with_text("shm-size", "lots"), with_text("context", "git@example.org:a/b.git"),
        with_text("context", "ssh://git@example.org/a/b.git")}) {
    EXPECT_FALSE(refused.ok());
    EXPECT_THAT(std::string(refused.message()), HasSubstr("target a: "));
  }
  for (const absl::Status& taken :
       {with_list("secret", "id=x,src=" + file), with_list("secret", "id=x,env=KILN_TEST_UNSET"),
        with_list("platforms", "windows(10.0+f)/amd64"),
        with_list("output", "type=tar,dest=" + none + "/x.tar"),
        with_list("cache-to", "type=local,dest=" + none), with_list("tags", "NO NAME"),
        with_list("entitlements", "network.host"), with_text("context", none),
        with_text("context", "https://example.org/a.git"), with_text("dockerfile", none),
        with_text("network", "what")})
    EXPECT_EQ(taken, absl::OkStatus());
  EXPECT_NE(access(none.c_str(), F_OK), 0) << "printing made a directory";
}

}  // namespace
}  // namespace kiln::client
