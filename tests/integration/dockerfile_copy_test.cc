// Where COPY and WORKDIR put files, with which owners and modes (dockerfile.md 9, by number).

#include <sys/stat.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/integration/dockerfile_fixture.h"

namespace kiln::integration {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

using DockerfileCopyTest = DockerfileTest;

TEST_F(DockerfileCopyTest, S53And54And55WorkingDirectories) {
  context_.Write("f", "f");
  const auto run = Make(R"(FROM busybox AS base
RUN mkdir -p /out /old && chown bin:daemon /old
WORKDIR /test1
COPY f one
WORKDIR test2
COPY f two
WORKDIR ..
COPY f three
USER user
WORKDIR /mydir
WORKDIR /old
USER root
RUN stat -c "%U:%G" /mydir /old > /out/owners
RUN ls /test1 /test1/test2 > /out/list
FROM scratch
COPY --from=base /out /
)");
  EXPECT_EQ(run->File("owners"), "user:user\nbin:daemon\n");
  EXPECT_EQ(run->File("list"), "/test1:\none\ntest2\nthree\n\n/test1/test2:\ntwo\n");
  const auto scratch = Make("FROM scratch\nWORKDIR /foo\nWORKDIR /\n");
  EXPECT_TRUE(fs::is_directory(scratch->out.path() + "/foo"));
}

TEST_F(DockerfileCopyTest, S56To58And61To63WhereFilesGo) {
  context_.Write("testfile", "t");
  context_.Write("foo", "foo");
  context_.Write("bar", "bar");
  context_.Write("dir/a", "a");
  context_.Write("dir/sub/b", "b");
  context_.Write("real/link-file", "through");
  fs::create_directory_symlink("real", context_.path() + "/link");
  const auto run = Make(R"(FROM busybox AS base
WORKDIR /test
COPY testfile $empty
COPY testfile /sample/
COPY foo nomatch* /plain/
COPY dir/ /d1
COPY dir/. /d2
COPY dir /d3
COPY link/link-file /l1
COPY link/ /l2/
COPY /foo ../bar ../../dir/a /clamped/
RUN mkdir -p /real && echo stage > /real/f && ln -s /real /abs && ln -s real /rel && ln -s ../real /up
FROM scratch
COPY --from=base /test /test
COPY --from=base /sample /sample
COPY --from=base /plain /plain
COPY --from=base /d1 /d1
COPY --from=base /d2 /d2
COPY --from=base /d3 /d3
COPY --from=base /l1 /l1
COPY --from=base /l2 /l2
COPY --from=base /clamped /clamped
COPY --from=base /abs/f /s1
COPY --from=base /rel/f /s2
COPY --from=base /up/f /s3
COPY --from=base /abs /s4
)");
  EXPECT_EQ(run->File("test/testfile"), "t") << "S56";
  EXPECT_EQ(run->File("sample/testfile"), "t") << "S57";
  EXPECT_EQ(run->File("plain/foo"), "foo") << "S58";
  for (const char* dir : {"d1", "d2", "d3"}) {
    EXPECT_EQ(run->File(absl::StrCat(dir, "/a")), "a") << "S61 " << dir;
    EXPECT_EQ(run->File(absl::StrCat(dir, "/sub/b")), "b") << "S61 " << dir;
    EXPECT_FALSE(run->Has(absl::StrCat(dir, "/dir"))) << "S61 " << dir;
  }
  EXPECT_EQ(run->File("l1"), "through") << "S62";
  EXPECT_EQ(run->File("l2/link-file"), "through") << "S62";
  EXPECT_EQ(run->File("s1"), "stage\n") << "S62";
  EXPECT_EQ(run->File("s2"), "stage\n") << "S62";
  EXPECT_EQ(run->File("s3"), "stage\n") << "S62";
  EXPECT_EQ(run->File("s4/f"), "stage\n") << "S62";
  EXPECT_EQ(run->File("clamped/foo"), "foo") << "S63";
  EXPECT_EQ(run->File("clamped/bar"), "bar") << "S63";
  EXPECT_EQ(run->File("clamped/a"), "a") << "S63";
}

TEST_F(DockerfileCopyTest, S59And60WildcardsAndTheCache) {
  context_.Write("foo1", "1");
  context_.Write("foo2", "2");
  context_.Write("bar", "b1");
  const char file[] = R"(FROM busybox AS base
COPY foo* files/
RUN head -c 16 /dev/urandom | md5sum > unique
COPY bar files/
FROM scratch
COPY --from=base unique files/bar /
)";
  const auto first = Make(file);
  context_.Write("bar", "b2 is longer");
  const auto second = Make(file);
  EXPECT_EQ(second->File("bar"), "b2 is longer");
  EXPECT_EQ(second->File("unique"), first->File("unique")) << "S60";
  context_.Write("foo2", "2 changed");
  EXPECT_NE(Make(file)->File("unique"), first->File("unique")) << "S60";

  const char list[] = "FROM busybox\nCOPY file* /files/\nRUN ls /files/file1\n";
  context_.Write("file1", "same");
  Make(list);
  fs::rename(context_.path() + "/file1", context_.path() + "/file2");
  EXPECT_FALSE(Try(list)->status.ok()) << "S59";
}

TEST_F(DockerfileCopyTest, S64And66And68OwnersAndModes) {
  context_.Write("foo", "foo", 0600);
  context_.Write("tree/plain", "", 0600);
  context_.Write("tree/sub/program", "", 0700);
  fs::permissions(context_.path() + "/tree/sub", fs::perms::owner_all);
  const auto run = Make(R"(FROM busybox AS base
ENV owner=1000
ARG group=nobody
RUN mkdir /out
COPY --chown=daemon foo /a
COPY --chown=1000:nobody tree /b
COPY --chown=${owner}:${group} foo /c
COPY --chown=user foo /d
COPY --chown=123 foo /e
COPY foo /f
COPY --chmod=777 foo /parent/foo
COPY --chmod=0 foo /zero
COPY --chmod=u=rwX,go=rX tree /modes
COPY --chmod=${mode:-4755} foo /setuid
RUN stat -c "%n %u:%g" /a /b /b/plain /b/sub /c /d /e /f > /out/owners
RUN stat -c "%n %a" /f /parent /parent/foo /zero /setuid > /out/modes
RUN stat -c "%n %a" /modes /modes/plain /modes/sub /modes/sub/program > /out/symbolic
FROM scratch
COPY --from=base /out /
)");
  EXPECT_EQ(run->File("owners"),
            "/a 1:1\n/b 1000:65534\n/b/plain 1000:65534\n/b/sub 1000:65534\n/c 1000:65534\n"
            "/d 1001:1002\n/e 123:123\n/f 0:0\n")
      << "S64";
  EXPECT_EQ(run->File("modes"), "/f 600\n/parent 777\n/parent/foo 777\n/zero 0\n/setuid 4755\n")
      << "S66";
  EXPECT_EQ(run->File("symbolic"),
            "/modes 755\n/modes/plain 644\n/modes/sub 755\n/modes/sub/program 755\n")
      << "S68";
}

TEST_F(DockerfileCopyTest, S65OntoDirectoriesThatAreThere) {
  const auto run = Make(R"(FROM busybox AS source
RUN touch /file && chown 100:200 /file && mkdir -p /dir/subdir && touch /dir/subdir/nested \
 && chown 100:200 /dir && chown 101:201 /dir/subdir && chown 102:202 /dir/subdir/nested
FROM busybox AS base
RUN mkdir -p /there/sub && touch /there/file && chown 500:600 /there && chown 501:601 /there/*
FROM base AS kept
COPY --from=source /file .
COPY --from=source /dir /dir
COPY --from=source /dir/. /there
FROM base AS changed
COPY --from=source --chown=300:400 /file .
COPY --from=source --chown=300:400 /dir /dir
COPY --from=source --chown=300:400 /dir/. /there
FROM busybox AS look
RUN --mount=from=kept,target=/k --mount=from=changed,target=/c mkdir /out; for s in k c; do \
  cd /$s; stat -c "%u:%g" file dir dir/subdir dir/subdir/nested there there/sub there/file \
    there/subdir there/subdir/nested | tr '\n' ' ' > /out/$s; done
FROM scratch
COPY --from=look /out /
)");
  EXPECT_EQ(run->File("k"), "100:200 0:0 101:201 102:202 500:600 501:601 501:601 101:201 102:202 ");
  EXPECT_EQ(run->File("c"),
            "300:400 300:400 300:400 300:400 500:600 501:601 501:601 300:400 300:400 ");
}

TEST_F(DockerfileCopyTest, S69And70Links) {
  context_.Write("testfile", "t");
  const auto run = Make(R"(FROM busybox AS base
WORKDIR /w
COPY --link testfile .
COPY --link --chmod=600 testfile sub/f
RUN stat -c %a sub/f > mode
FROM scratch
COPY --from=base /w /
)");
  EXPECT_EQ(run->File("testfile"), "t");
  EXPECT_EQ(run->File("mode"), "600\n");
}

TEST_F(DockerfileCopyTest, S71And72Parents) {
  for (const char* file : {"a/b/c1/d", "a/b/c2/d", "a/b/other/d", "x/y", "x/1/2/y", "x/1/z"})
    context_.Write(file, file);
  auto run = Make("FROM scratch\nCOPY --parents a/b/./c*/d x/**/y /out/\n");
  EXPECT_EQ(run->File("out/c1/d"), "a/b/c1/d");
  EXPECT_EQ(run->File("out/c2/d"), "a/b/c2/d");
  EXPECT_EQ(run->File("out/x/1/2/y"), "x/1/2/y");
  EXPECT_EQ(run->File("out/x/y"), "x/y");
  EXPECT_FALSE(run->Has("out/x/1/z"));
  EXPECT_FALSE(run->Has("out/a"));
  EXPECT_FALSE(run->Has("out/other"));
  run = Try("FROM scratch\nCOPY --parents a/missing /out/\n");
  EXPECT_THAT(std::string(run->status.message()), HasSubstr("\"/a/missing\": not found"));
  run = Make("FROM scratch\nCOPY --parents x/y missing* /out/\n");
  EXPECT_EQ(run->File("out/x/y"), "x/y");
}

TEST_F(DockerfileCopyTest, S73Excludes) {
  for (const char* file : {"a.png", "d/b.png", "d/c.txt", "d/e/f.png"}) context_.Write(file, file);
  auto run = Make("FROM scratch\nCOPY --exclude=*/*.png . /out/\n");
  EXPECT_TRUE(run->Has("out/a.png"));
  EXPECT_FALSE(run->Has("out/d/b.png"));
  EXPECT_TRUE(run->Has("out/d/c.txt"));
  EXPECT_TRUE(run->Has("out/d/e/f.png"));
  run = Make("FROM scratch\nCOPY --exclude=* . /out/\n");
  EXPECT_TRUE(fs::is_directory(run->out.path() + "/out"));
  EXPECT_TRUE(run->Has("out") && fs::is_empty(run->out.path() + "/out"));
}

TEST_F(DockerfileCopyTest, S146WhatIsMissingIsNamed) {
  Input input;
  input.no_output = true;
  const auto run = Try("FROM scratch\nCOPY badfile /\n", input);
  EXPECT_THAT(std::string(run->status.message()), HasSubstr("\"/badfile\": not found"));
}

}  // namespace
}  // namespace kiln::integration
