// ADD of archives, downloads and repositories (dockerfile.md 9, by number).

#include <sys/stat.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/digest.h"
#include "tests/daemon/source/test_git_server.h"
#include "tests/daemon/source/test_http_server.h"
#include "tests/integration/dockerfile_fixture.h"

namespace kiln::integration {
namespace {

using daemon::GitServer;
using daemon::TestHttpRequest;
using daemon::TestHttpServer;
using testing::HasSubstr;

class DockerfileAddTest : public DockerfileTest {
 protected:
  // An archive of "t/f" with owner 7:8, beside the context.
  std::string Archive(const std::string& flags) {
    TempDir dir;
    dir.Write("t/f", "content");
    const std::string file = dir.path() + "/a";
    Output({"tar", "--owner=7", "--group=8", flags, file, "-C", dir.path(), "t"});
    return Slurp(file);
  }

  std::string Git(const std::vector<std::string>& args) {
    std::vector<std::string> all = {"env",
                                    "HOME=/dev/null",
                                    "GIT_AUTHOR_NAME=a",
                                    "GIT_AUTHOR_EMAIL=a@b",
                                    "GIT_COMMITTER_NAME=c",
                                    "GIT_COMMITTER_EMAIL=c@d",
                                    "git",
                                    "-c",
                                    "protocol.file.allow=always"};
    all.insert(all.end(), args.begin(), args.end());
    return std::string(absl::StripAsciiWhitespace(Output(all, repos_.path() + "/repo.git")));
  }
  // repo.git: tag v0.0.1 and branch main, of which branch has more.
  void MakeRepository() {
    repos_.Write("repo.git/foo", "first");
    repos_.Write("repo.git/sub/inner", "inner");
    Git({"init", "-q", "-b", "main"});
    Git({"add", "-A"});
    Git({"commit", "-q", "-m", "one"});
    Git({"tag", "v0.0.1"});
    first_ = Git({"rev-parse", "HEAD"});
    Git({"checkout", "-q", "-b", "branch"});
    repos_.Write("repo.git/foo", "second is longer");
    Git({"commit", "-q", "-a", "-m", "two"});
    second_ = Git({"rev-parse", "HEAD"});
    Git({"checkout", "-q", "main"});
  }

  TempDir repos_;
  std::string first_, second_;  // commits of the tag and of the branch
};

TEST_F(DockerfileAddTest, S74And81LocalArchives) {
  context_.Write("a.tar", Archive("-cf"));
  context_.Write("a.tar.gz", Archive("-czf"));
  const auto run = Make(R"(FROM busybox AS base
ADD a.tar /plain/
ADD a.tar.gz /gzip/
ADD --unpack=false a.tar /kept/
COPY a.tar /copied/
ADD --chown=100:200 a.tar /out/
RUN stat -c "%u:%g" /out /out/t /out/t/f /plain /plain/t/f > /owners
FROM scratch
COPY --from=base /plain /plain
COPY --from=base /gzip /gzip
COPY --from=base /kept /kept
COPY --from=base /copied /copied
COPY --from=base /owners /
)");
  EXPECT_EQ(run->File("plain/t/f"), "content");
  EXPECT_EQ(run->File("gzip/t/f"), "content");
  EXPECT_EQ(run->File("kept/a.tar"), Slurp(context_.path() + "/a.tar"));
  EXPECT_EQ(run->File("copied/a.tar"), Slurp(context_.path() + "/a.tar"));
  EXPECT_EQ(run->File("owners"), "100:200\n100:200\n100:200\n0:0\n7:8\n") << "S81";
}

TEST_F(DockerfileAddTest, S75To77Downloads) {
  const std::string archive = Archive("-czf");
  TestHttpServer server([&](const TestHttpRequest& request) {
    if (absl::StartsWith(request.path, "/missing")) return TestHttpServer::Answer("404 Not Found");
    return TestHttpServer::Answer("200 OK", {"Last-Modified: Sun, 13 Sep 2020 12:26:40 GMT"},
                                  archive);
  });
  const std::string url = server.Url("/a.tar.gz");
  const std::string sum = Digest::Of(archive).ToString();
  auto run =
      Make(absl::StrCat("FROM scratch AS files\nADD ", url, " /plain/\nADD --unpack=true ", url,
                        " /unpacked/\nADD ", server.Url("/"), " /unnamed/\nADD --checksum=", sum,
                        " ", url, " /checked\nADD --chown=5:6 --chmod=640 ", url,
                        " /owned\nFROM busybox AS look\nRUN --mount=from=files,target=/f "
                        "stat -c '%u:%g %a %Y' /f/owned /f/unnamed/__unnamed__ > /s\n"
                        "FROM files\nCOPY --from=look /s /\n"));
  EXPECT_EQ(run->File("plain/a.tar.gz"), archive) << "S75";
  EXPECT_EQ(run->File("unpacked/t/f"), "content") << "S75";
  EXPECT_EQ(run->File("unnamed/__unnamed__"), archive) << "S76";
  EXPECT_EQ(run->File("s"), "5:6 640 1600000000\n0:0 600 1600000000\n") << "S76";
  EXPECT_EQ(run->File("checked"), archive) << "S77";
  run = Try(
      absl::StrCat("FROM scratch\nADD --checksum=", Digest::Of("x").ToString(), " ", url, " /\n"));
  EXPECT_THAT(std::string(run->status.message()), HasSubstr("digest mismatch")) << "S77";
  run = Try(absl::StrCat("FROM scratch\nADD ", server.Url("/missing"), " /\n"));
  EXPECT_THAT(std::string(run->status.message()), HasSubstr("404"));
}

TEST_F(DockerfileAddTest, S78And79Repositories) {
  MakeRepository();
  GitServer server(repos_.path());
  const std::string url = server.Remote("repo.git");
  auto run = Make(absl::StrCat(
      "FROM scratch AS files\nADD ", url, "#v0.0.1 /tag\nADD --keep-git-dir=true ", url,
      "#branch /kept\nADD --chown=4:5 ", url, "#v0.0.1 /owned\nADD ", url,
      "?branch=branch&subdir=sub /sub\nADD ", url, "?tag=v0.0.1 /query\nADD --checksum=", first_,
      " ", url, "#v0.0.1 /checked\nADD ", url,
      "?keep-git-dir=true&submodules=false /kept2\n"
      "FROM busybox AS look\nRUN --mount=from=files,target=/f "
      "stat -c '%u:%g' /f/owned /f/owned/foo > /s\nFROM files\nCOPY --from=look /s /\n"));
  EXPECT_EQ(run->File("tag/foo"), "first");
  EXPECT_FALSE(run->Has("tag/.git"));
  EXPECT_EQ(run->File("kept/foo"), "second is longer");
  EXPECT_TRUE(run->Has("kept/.git/HEAD"));
  EXPECT_EQ(run->File("s"), "4:5\n4:5\n");
  EXPECT_EQ(run->File("sub/inner"), "inner");
  EXPECT_FALSE(run->Has("sub/foo"));
  EXPECT_EQ(run->File("query/foo"), "first");
  EXPECT_EQ(run->File("checked/foo"), "first");
  EXPECT_TRUE(run->Has("kept2/.git/HEAD"));
  run = Try(absl::StrCat("FROM scratch\nADD --checksum=", second_, " ", url, "#v0.0.1 /\n"));
  EXPECT_THAT(std::string(run->status.message()), HasSubstr("expected checksum to match"));
  run = Try(absl::StrCat("FROM scratch\nADD ", url, "?tag=v0.0.1#branch /\n"));
  EXPECT_THAT(std::string(run->status.message()), HasSubstr("ref conflicts"));
}

TEST_F(DockerfileAddTest, S80AChecksumIsNoOtherSource) {
  MakeRepository();
  GitServer server(repos_.path());
  const std::string url = server.Remote("repo.git");
  const char rest[] =
      " /r\nFROM busybox\nRUN --mount=from=files,target=/f head -c 16 /dev/urandom > /unique\n";
  const auto first = Make(absl::StrCat("FROM scratch AS files\nADD ", url, "#v0.0.1", rest));
  const auto second = Make(
      absl::StrCat("FROM scratch AS files\nADD --checksum=", first_, " ", url, "#v0.0.1", rest));
  EXPECT_EQ(first->File("unique"), second->File("unique"));
}

TEST_F(DockerfileAddTest, S120ADirectoryOfAnArchiveIsTheContext) {
  TempDir dir;
  dir.Write("Dockerfile", "FROM scratch\nCOPY foo /wrong\n");
  dir.Write("sub/Dockerfile", "FROM scratch\nCOPY foo /wrong\n");
  dir.Write("foo", "foo of the archive");
  dir.Write("sub/foo", "foo of the directory");
  dir.Write("sub/deep/bar", "bar");
  const std::string archive = Output({"tar", "-C", dir.path(), "-c", "."});
  TestHttpServer web(
      [&](const TestHttpRequest&) { return TestHttpServer::Answer("200 OK", {}, archive); });
  Input input;
  input.attrs = {
      {"context", web.Url("/c")}, {"contextsubdir", "sub"}, {"dockerfilekey", "dockerfile"}};
  auto run = Make("FROM scratch\nCOPY foo /f\nCOPY . /all/\nCOPY ../foo /up\n", input);
  EXPECT_EQ(run->File("f"), "foo of the directory");
  EXPECT_EQ(run->File("all/deep/bar"), "bar");
  EXPECT_FALSE(run->Has("all/sub"));
  EXPECT_FALSE(run->Has("wrong"));
  EXPECT_EQ(run->File("up"), "foo of the directory") << "nothing is above the context";
  // Without the key the archive's own Dockerfile counts: the directory moves only the context.
  input.attrs.erase("dockerfilekey");
  run = Make("FROM scratch\n", input);
  EXPECT_EQ(run->File("wrong"), "foo of the directory");
}

TEST_F(DockerfileAddTest, S119And121RemoteContexts) {
  TempDir dir;
  dir.Write("mydockerfile", "FROM scratch\nCOPY foo /\n");
  dir.Write("foo", "foo of the archive");
  dir.Write("sub/foo", "foo of the directory");
  const std::string archive = Output({"tar", "-C", dir.path(), "-c", "."});
  TestHttpServer web([&](const TestHttpRequest& request) {
    return TestHttpServer::Answer(
        "200 OK", {},
        absl::StrContains(request.path, "tar") ? archive : "FROM scratch\nCOPY <<E /made\nx\nE\n");
  });
  Input input;
  input.attrs = {{"context", web.Url("/c.tar")}, {"filename", "mydockerfile"}};
  auto run = Make("", input);
  EXPECT_EQ(run->File("foo"), "foo of the archive") << "S119";
  input.attrs = {{"context", web.Url("/plain")}, {"filename", "bogus"}};
  run = Make("", input);
  EXPECT_EQ(run->File("made"), "x\n") << "S119";
  MakeRepository();
  repos_.Write("repo.git/Dockerfile", "FROM scratch\nCOPY . /\n");
  Git({"add", "-A"});
  Git({"commit", "-q", "-m", "three"});
  Git({"checkout", "-q", "branch"});
  repos_.Write("repo.git/Dockerfile", "FROM scratch\nCOPY foo .gi[t] /of-branch/\n");
  Git({"add", "-A"});
  Git({"commit", "-q", "-m", "four"});
  Git({"checkout", "-q", "main"});
  GitServer server(repos_.path());
  const std::string url = server.Remote("repo.git");
  input.attrs = {{"context", url}};
  run = Make("", input);
  EXPECT_EQ(run->File("foo"), "first") << "S121: the default branch";
  EXPECT_FALSE(run->Has(".git")) << "S121";
  input.attrs = {{"context", url + "#branch"}};
  run = Make("", input);
  EXPECT_EQ(run->File("of-branch/foo"), "second is longer") << "S121";
  EXPECT_FALSE(run->Has("of-branch/HEAD")) << "S121";
  input.attrs["build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR"] = "1";
  run = Make("", input);
  EXPECT_TRUE(run->Has("of-branch/HEAD")) << "S121";
}

}  // namespace
}  // namespace kiln::integration
