#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "absl/strings/match.h"
#include "daemon/ops/failed_step.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"
#include "tests/daemon/ops/op_fixture.h"

namespace kiln::daemon {
namespace {

using store::Attributes;
using store::TreeWriter;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FileOps : public OpsTest {
 protected:
  // A small tree to copy from.
  RefPtr Source() {
    return Tree([](TreeWriter& w) {
      store::Must(w.MakeDir("/src", {.mode = 0750, .mtime = absl::FromUnixSeconds(1000)}));
      store::Must(w.MakeDir("/src/sub", {}));
      store::Must(w.WriteFile("/src/a.txt", "a", {.uid = 5, .gid = 6, .mode = 0640}));
      store::Must(w.WriteFile("/src/sub/b.txt", "b", {}));
      store::Must(w.WriteFile("/src/sub/c.md", "c", {}));
      store::Must(w.MakeSymlink("/src/link", "a.txt", {}));
      store::Must(w.MakeSymlink("/dirlink", "src/sub", {}));
      store::Must(w.SetAttributes("/src", {.mtime = absl::FromUnixSeconds(1000)}));
    });
  }
};

TEST_F(FileOps, ChainOfActions) {
  pb::Op op = OpWith(0);
  Mkdir(Act(&op, -1, -1, -1), "/a");
  Mkfile(Act(&op, 0, -1, -1), "/a/f", "hello");
  Symlink(Act(&op, 1, -1, -1), "f", "/a/l");
  Rm(Act(&op, 2, -1, 0), "/a/none")->set_allownotfound(true);
  EXPECT_EQ(ShowOr(Run(op)), "a/ a/f=hello a/l->f ");
}

TEST_F(FileOps, MkdirRules) {
  const RefPtr base = Make(nullptr, "/file", "x");
  const auto mkdir = [&](const std::string& path, bool parents) {
    pb::Op op = OpWith(1);
    pb::FileActionMkDir* action = Mkdir(Act(&op, 0, -1, 0), path);
    action->set_makeparents(parents);
    action->set_mode(01711);
    action->mutable_owner()->mutable_user()->set_byid(7);
    action->set_timestamp(0);
    return Run(op, {base});
  };
  const auto deep = mkdir("/x/y", true);
  ASSERT_OK(deep);
  for (const char* path : {"/x", "/x/y"}) {
    const store::Entry entry = Stat(*deep, path);
    EXPECT_EQ(entry.st.st_mode, S_IFDIR | 0711u) << path;
    EXPECT_EQ(entry.st.st_uid, 7u);
    EXPECT_EQ(entry.st.st_gid, 7u);
  }
  EXPECT_EQ(Stat(*deep, "/x/y").st.st_mtime, 0);
  EXPECT_TRUE(absl::IsNotFound(mkdir("/x/y", false).status()));
  EXPECT_EQ(ShowOr(mkdir("/file", false)), "file=x ");
  EXPECT_THAT(ShowOr(mkdir("/file/x", true)), HasSubstr("mkdir /file: not a directory"));
}

TEST_F(FileOps, MkfileKeepsWhatWasThere) {
  const RefPtr base = Tree([](TreeWriter& w) {
    store::Must(w.WriteFile("/f", "old", {.uid = 3, .gid = 4, .mode = 0751}));
    store::Must(w.SetXattr("/f", "user.k", "v"));
    store::Must(w.MakeHardlink("/g", "/f"));
  });
  pb::Op op = OpWith(1);
  Mkfile(Act(&op, 0, -1, 0), "/f", "new");
  const auto result = Run(op, {base});
  ASSERT_OK(result);
  EXPECT_EQ(Show(*result), "f=new g=old ");
  EXPECT_EQ(Stat(*result, "/f").st.st_mode, S_IFREG | 0751u);
  EXPECT_EQ(Stat(*result, "/f").st.st_uid, 3u);
  EXPECT_EQ(Show(base), "f=old g=old ");
}

TEST_F(FileOps, RmRules) {
  const RefPtr base = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/d", {}));
    store::Must(w.WriteFile("/d/a.txt", "", {}));
    store::Must(w.WriteFile("/d/b.txt", "", {}));
    store::Must(w.WriteFile("/d/c", "", {}));
    store::Must(w.MakeSymlink("/dangling", "nowhere", {}));
    store::Must(w.MakeSymlink("/l", "d", {}));
  });
  const auto rm = [&](const std::string& path, bool wildcard) {
    pb::Op op = OpWith(1);
    Rm(Act(&op, 0, -1, 0), path)->set_allowwildcard(wildcard);
    return ShowOr(Run(op, {base}));
  };
  EXPECT_EQ(rm("/d/*.txt", true), "d/ d/c= dangling->nowhere l->d ");
  EXPECT_EQ(rm("/l/*.txt", true), "d/ d/c= dangling->nowhere l->d ");
  EXPECT_EQ(rm("/none/*", true), Show(base));
  EXPECT_EQ(rm("/l", false), "d/ d/a.txt= d/b.txt= d/c= dangling->nowhere ");
  EXPECT_EQ(rm("/dangling", false), "d/ d/a.txt= d/b.txt= d/c= l->d ");
  EXPECT_EQ(rm("/d", false), "dangling->nowhere l->d ");
  EXPECT_THAT(rm("/none", false), HasSubstr("/none: no such file or directory"));
  EXPECT_THAT(rm("/", false), HasSubstr("rmPath: invalid empty path"));
  EXPECT_THAT(rm("/d/..", false), HasSubstr("rmPath: invalid empty path"));
}

TEST_F(FileOps, CopyPlacement) {
  const RefPtr from = Source();
  const RefPtr base = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/there", {}));
    store::Must(w.WriteFile("/there/x", "x", {}));
  });
  const auto create = [](pb::FileActionCopy* c) { c->set_createdestpath(true); };
  const auto contents = [](pb::FileActionCopy* c) {
    c->set_createdestpath(true);
    c->set_dircopycontents(true);
  };
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/a.txt", "/b.txt")), "b.txt=a ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/a.txt", "/d/", create)), "d/ d/a.txt=a ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/a.txt", "/d/.", create)), "d/ d/a.txt=a ");
  EXPECT_EQ(ShowOr(RunCopy(base, from, "/src/a.txt", "/there")), "there/ there/a.txt=a there/x=x ");
  EXPECT_EQ(ShowOr(RunCopy(base, from, "/src/a.txt", "/there/x")), "there/ there/x=a ");
  // A directory becomes the missing destination, or goes into the existing one.
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/sub", "/new")), "new/ new/b.txt=b new/c.md=c ");
  EXPECT_EQ(ShowOr(RunCopy(base, from, "/src/sub", "/there")),
            "there/ there/sub/ there/sub/b.txt=b there/sub/c.md=c there/x=x ");
  EXPECT_EQ(ShowOr(RunCopy(base, from, "/src/sub", "/there", contents)),
            "there/ there/b.txt=b there/c.md=c there/x=x ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/sub", "/p/q", contents)),
            "p/ p/q/ p/q/b.txt=b p/q/c.md=c ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/", "/", contents)), Show(from));
  EXPECT_THAT(ShowOr(RunCopy(nullptr, from, "/src/a.txt", "/no/f")),
              HasSubstr("failed to stat /no/f"));
  EXPECT_THAT(ShowOr(RunCopy(nullptr, from, "/none", "/f")),
              HasSubstr("/none: no such file or directory"));
}

TEST_F(FileOps, CopyPreservesMetadata) {
  const RefPtr from = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/d", {.uid = 1, .gid = 2, .mode = 02750}));
    store::Must(w.WriteFile("/d/f", "x", {.uid = 3, .gid = 4, .mode = 04711}));
    store::Must(w.MakeHardlink("/d/hard", "/d/f"));
    store::Must(w.MakeNode("/d/fifo", S_IFIFO | 0600, 0, {.mode = 0620}));
    store::Must(w.MakeNode("/d/null", S_IFCHR | 0666, makedev(1, 3), {.mode = 0666}));
    store::Must(w.MakeSymlink("/d/l", "../../../etc/passwd", {.uid = 9, .gid = 9}));
    store::Must(w.SetXattr("/d/f", "user.k", "v"));
    store::Must(w.SetAttributes("/d/f", {.mtime = absl::FromUnixNanos(1234567890123456789)}));
    store::Must(w.SetAttributes("/d", {.mtime = absl::FromUnixSeconds(77)}));
  });
  const auto copied = RunCopy(nullptr, from, "/d", "/e");
  ASSERT_OK(copied);
  const store::Entry dir = Stat(*copied, "/e"), file = Stat(*copied, "/e/f");
  EXPECT_EQ(dir.st.st_mode, S_IFDIR | 02750u);
  EXPECT_EQ(dir.st.st_uid, 1u);
  EXPECT_EQ(dir.st.st_mtime, 77);
  EXPECT_EQ(file.st.st_mode, S_IFREG | 04711u);
  EXPECT_EQ(file.st.st_gid, 4u);
  EXPECT_EQ(absl::ToUnixNanos(absl::TimeFromTimespec(file.st.st_mtim)), 1234567890123456789);
  EXPECT_EQ(Stat(*copied, "/e/hard").st.st_ino, file.st.st_ino);
  EXPECT_EQ(Stat(*copied, "/e/fifo").st.st_mode, S_IFIFO | 0620u);
  EXPECT_EQ(Stat(*copied, "/e/null").st.st_rdev, makedev(1, 3));
  EXPECT_EQ(Stat(*copied, "/e/l").link, "../../../etc/passwd");
  EXPECT_EQ(Stat(*copied, "/e/l").st.st_uid, 9u);
}

TEST_F(FileOps, CopyOverrides) {
  const RefPtr from = Source();
  const auto result = RunCopy(nullptr, from, "/src", "/p/d", [](pb::FileActionCopy* c) {
    c->set_createdestpath(true);
    c->set_mode(0);
    c->mutable_owner()->mutable_user()->set_byid(11);
    c->mutable_owner()->mutable_group()->set_byid(12);
    c->set_timestamp(5000000000);
  });
  ASSERT_OK(result);
  for (const char* path : {"/p", "/p/d", "/p/d/a.txt", "/p/d/sub", "/p/d/link"}) {
    const store::Entry entry = Stat(*result, path);
    EXPECT_EQ(entry.st.st_uid, 11u) << path;
    EXPECT_EQ(entry.st.st_gid, 12u) << path;
    EXPECT_EQ(entry.st.st_mtime, 5) << path;
    if (!S_ISLNK(entry.st.st_mode)) {
      EXPECT_EQ(entry.st.st_mode & 07777, 0u) << path;
    }
  }
  const auto symbolic = RunCopy(nullptr, from, "/src", "/d", [](pb::FileActionCopy* c) {
    c->set_mode(0);
    c->set_modestr("go=u,o-w,a+X");
  });
  ASSERT_OK(symbolic);
  EXPECT_EQ(Stat(*symbolic, "/d").st.st_mode, S_IFDIR | 0775u);
  EXPECT_EQ(Stat(*symbolic, "/d/a.txt").st.st_mode, S_IFREG | 0664u);
  EXPECT_THAT(ShowOr(RunCopy(nullptr, from, "/src", "/d",
                             [](pb::FileActionCopy* c) { c->set_modestr("u+q"); })),
              HasSubstr("invalid mode"));
}

TEST_F(FileOps, CopyOntoExisting) {
  const RefPtr from = Source();
  const RefPtr base = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/src", {.mode = 0700, .mtime = absl::FromUnixSeconds(1)}));
    store::Must(w.MakeDir("/src/sub", {.mode = 0700}));
    store::Must(w.WriteFile("/src/sub/own", "own", {}));
    store::Must(w.WriteFile("/src/a.txt", "to be replaced", {}));
    store::Must(w.MakeHardlink("/neighbour", "/src/a.txt"));
  });
  // Llb6_88: the other name keeps its content.
  const auto merged = RunCopy(base, from, "/src", "/");
  ASSERT_OK(merged);
  EXPECT_EQ(Show(*merged),
            "neighbour=to be replaced src/ src/a.txt=a src/link->a.txt src/sub/ "
            "src/sub/b.txt=b src/sub/c.md=c src/sub/own=own ");
  // The destination itself keeps mode and owner and takes the time; directories inside take all.
  EXPECT_EQ(Stat(*merged, "/src").st.st_mode, S_IFDIR | 0700u);
  EXPECT_EQ(Stat(*merged, "/src").st.st_mtime, 1000);
  EXPECT_EQ(Stat(*merged, "/src/sub").st.st_mode, S_IFDIR | 0755u);
}

// Enough files for several threads: hard links stay what they are, directories keep their times.
TEST_F(FileOps, ManyFilesCopyAsFewDo) {
  constexpr int kDirs = 4, kFiles = 100;
  const auto path = [](int d, int f) { return absl::StrCat("/src/d", d, "/f", f); };
  const RefPtr source = Tree([&](TreeWriter& w) {
    store::Must(w.MakeDir("/src", {}));
    for (int d = 0; d < kDirs; ++d) {
      const std::string dir = absl::StrCat("/src/d", d);
      store::Must(w.MakeDir(dir, {}));
      for (int f = 0; f < kFiles; ++f) {
        if (d > 0 && f == 0) {
          store::Must(w.MakeHardlink(path(d, 0), path(0, 0)));
        } else {
          store::Must(w.WriteFile(path(d, f), path(d, f), {.mode = 0600}));
        }
      }
      store::Must(w.SetAttributes(dir, {.mtime = absl::FromUnixSeconds(1000 + d)}));
    }
  });
  const RefPtr base = Tree([&](TreeWriter& w) {
    store::Must(w.MakeDir("/dst", {}));
    store::Must(w.MakeDir("/dst/d1", {}));
    store::Must(w.WriteFile("/dst/d1/f7", "old", {}));
    store::Must(w.WriteFile("/dst/d1/more", "more", {}));
  });
  const auto copied = RunCopy(base, source, "/src", "/dst",
                              [](pb::FileActionCopy* copy) { copy->set_dircopycontents(true); });
  ASSERT_OK(copied);
  const store::TreeReader tree(store::Must((*copied)->Materialize({})));
  for (int d = 0; d < kDirs; ++d) {
    EXPECT_EQ(Stat(*copied, absl::StrCat("/dst/d", d)).st.st_mtime, 1000 + d);
    EXPECT_EQ(Stat(*copied, absl::StrCat("/dst/d", d, "/f0")).st.st_ino,
              Stat(*copied, "/dst/d0/f0").st.st_ino);
    for (int f = 1; f < kFiles; ++f) {
      const auto fd = tree.Open(absl::StrCat("/dst/d", d, "/f", f));
      ASSERT_OK(fd);
      EXPECT_EQ(ReadAll(fd->get()).value_or("?"), path(d, f));
    }
  }
  EXPECT_EQ(Stat(*copied, "/dst/d1/more").st.st_size, 4);
}

TEST_F(FileOps, Llb6_88_ReplacingAFileLeavesHardlinksAlone) {
  const RefPtr from = Make(nullptr, "/new", "new");
  const RefPtr base = Tree([](TreeWriter& w) {
    store::Must(w.WriteFile("/f", "old", {}));
    store::Must(w.MakeHardlink("/g", "/f"));
    store::Must(w.MakeSymlink("/s", "f", {}));
  });
  EXPECT_EQ(ShowOr(RunCopy(base, from, "/new", "/f")), "f=new g=old s->f ");
  // The destination's link is followed, what it leads to is replaced.
  EXPECT_EQ(ShowOr(RunCopy(base, from, "/new", "/s")), "f=new g=old s->f ");
}

TEST_F(FileOps, CopyTypeConflicts) {
  const RefPtr from = Source();
  const RefPtr base = Tree([](TreeWriter& w) {
    store::Must(w.WriteFile("/sub", "a file", {}));
    store::Must(w.MakeDir("/a.txt", {}));
    store::Must(w.WriteFile("/a.txt/x", "", {}));
  });
  const auto contents = [](pb::FileActionCopy* c) { c->set_dircopycontents(true); };
  EXPECT_THAT(ShowOr(RunCopy(base, from, "/src", "/", contents)),
              HasSubstr("cannot replace to directory /a.txt with file"));
  EXPECT_THAT(ShowOr(RunCopy(base, from, "/src/sub", "/sub", contents)),
              HasSubstr("cannot copy to non-directory: /sub"));
  const auto replace = [](pb::FileActionCopy* c) {
    c->set_dircopycontents(true);
    c->set_alwaysreplaceexistingdestpaths(true);
  };
  EXPECT_EQ(ShowOr(RunCopy(base, from, "/src", "/", replace)),
            "a.txt=a link->a.txt sub/ sub/b.txt=b sub/c.md=c ");
}

TEST_F(FileOps, CopyWildcards) {
  const RefPtr from = Source();
  const auto wild = [](pb::FileActionCopy* c) {
    c->set_allowwildcard(true);
    c->set_createdestpath(true);
  };
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/*.txt", "/", wild)), "a.txt=a ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/s*/sub/?.*", "/d/", wild)), "d/ d/b.txt=b d/c.md=c ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/dirlink/*.md", "/d/", wild)), "d/ d/c.md=c ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/*b", "/d/", wild)),
            "d/ d/sub/ d/sub/b.txt=b d/sub/c.md=c ");
  const auto none = RunCopy(nullptr, from, "/src/*.none", "/", wild);
  EXPECT_TRUE(absl::IsNotFound(none.status())) << none.status();
  EXPECT_EQ(none.status().message(), "/src/*.none not found");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/*.none", "/",
                           [&](pb::FileActionCopy* c) {
                             wild(c);
                             c->set_allowemptywildcard(true);
                           })),
            "");
  // Without allowWildcard the characters are a name.
  EXPECT_THAT(ShowOr(RunCopy(nullptr, from, "/src/*.txt", "/")), HasSubstr("/src/*.txt: no such"));
}

TEST_F(FileOps, CopyPatterns) {
  const RefPtr from = Source();
  const auto patterns = [](std::vector<std::string> include, std::vector<std::string> exclude) {
    return [include, exclude](pb::FileActionCopy* c) {
      for (const auto& p : include) c->add_include_patterns(p);
      for (const auto& p : exclude) c->add_exclude_patterns(p);
    };
  };
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src", "/d", patterns({"**/*.md"}, {}))),
            "d/ d/sub/ d/sub/c.md=c ");
  // Parents come only with something below them.
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src", "/d", patterns({"sub/none"}, {}))), "d/ ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src", "/d", patterns({}, {"sub", "link"}))),
            "d/ d/a.txt=a ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src", "/d", patterns({}, {"*", "!sub/b.txt"}))),
            "d/ d/sub/ d/sub/b.txt=b ");
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src", "/d", patterns({"sub"}, {"**/*.txt"}))),
            "d/ d/sub/ d/sub/c.md=c ");
  EXPECT_THAT(ShowOr(RunCopy(nullptr, from, "/src", "/d", patterns({"["}, {}))),
              HasSubstr("invalid includepatterns: [[]"));
}

TEST_F(FileOps, FollowSymlink) {
  const RefPtr from = Source();
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/link", "/x")), "x->a.txt ");
  const auto follow = [](pb::FileActionCopy* c) { c->set_followsymlink(true); };
  EXPECT_EQ(ShowOr(RunCopy(nullptr, from, "/src/link", "/x", follow)), "x=a ");
  const RefPtr base = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/d", {}));
    store::Must(w.WriteFile("/d/y", "y", {}));
  });
  EXPECT_EQ(ShowOr(RunCopy(base, from, "/src/link", "/d", follow)), "d/ d/link=a d/y=y ");
}

TEST_F(FileOps, Llb6_89_LinksNeverLeaveTheRoot) {
  const RefPtr base = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/in", {}));
    store::Must(w.MakeSymlink("/up", "../../../../in", {}));
    store::Must(w.MakeSymlink("/abs", "/in", {}));
    store::Must(w.MakeSymlink("/out", "/../../etc", {}));
    store::Must(w.WriteFile("/in/victim", "v", {}));
  });
  const auto act = [&](const std::function<void(pb::FileAction*)>& edit) {
    pb::Op op = OpWith(1);
    edit(Act(&op, 0, -1, 0));
    return ShowOr(Run(op, {base}));
  };
  const std::string links = "out->/../../etc up->../../../../in ";
  EXPECT_EQ(act([](auto* a) { Mkfile(a, "/up/f", "x"); }),
            "abs->/in in/ in/f=x in/victim=v " + links);
  EXPECT_EQ(act([](auto* a) { Mkfile(a, "/abs/f", "x"); }),
            "abs->/in in/ in/f=x in/victim=v " + links);
  EXPECT_EQ(act([](auto* a) { Mkdir(a, "/up/../../../d"); }),
            "abs->/in d/ in/ in/victim=v " + links);
  EXPECT_EQ(act([](auto* a) { Rm(a, "/abs/victim"); }), "abs->/in in/ " + links);
  EXPECT_THAT(act([](auto* a) { Mkfile(a, "/out/passwd", "x"); }),
              HasSubstr("no such file or directory"));
  // /etc of the tree, not of the host.
  EXPECT_EQ(act([](auto* a) { Mkdir(a, "/out/x")->set_makeparents(true); }),
            "abs->/in etc/ etc/x/ in/ in/victim=v " + links);
  const RefPtr evil = Tree([](TreeWriter& w) {
    store::Must(w.MakeSymlink("/passwd", "/etc/passwd", {}));
    store::Must(w.MakeSymlink("/rel", "../../../../../etc/passwd", {}));
  });
  for (const char* path : {"/passwd", "/rel"}) {
    EXPECT_THAT(ShowOr(RunCopy(nullptr, evil, path, "/x",
                               [](pb::FileActionCopy* c) { c->set_followsymlink(true); })),
                HasSubstr("no such file or directory"));
  }
}

TEST_F(FileOps, OwnersByName) {
  const RefPtr users = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/etc", {}));
    store::Must(w.WriteFile("/etc/passwd", "root:x:0:0::/:\nbob:x:21:22::/:\n", {}));
    store::Must(w.WriteFile("/etc/group", "staff:x:50:\n", {}));
  });
  const auto make = [&](const std::string& user, const std::string& group, const RefPtr& from) {
    pb::Op op = OpWith(1);
    Mkfile(Act(&op, -1, -1, 0), "/f", "x");
    pb::ChownOpt* owner = op.mutable_file()->mutable_actions(0)->mutable_mkfile()->mutable_owner();
    if (!user.empty()) owner->mutable_user()->mutable_byname()->set_name(user);
    if (!group.empty()) owner->mutable_group()->mutable_byname()->set_name(group);
    const auto result = Run(op, {from});
    if (!result.ok()) return result.status().ToString();
    const store::Entry entry = Stat(*result, "/f");
    return absl::StrCat(entry.st.st_uid, ":", entry.st.st_gid);
  };
  EXPECT_EQ(make("bob", "", users), "21:22");
  EXPECT_EQ(make("bob", "staff", users), "21:50");
  EXPECT_EQ(make("", "staff", users), "0:50");
  EXPECT_EQ(make("nobody", "", users), "0:0");
  EXPECT_EQ(make("bob", "", nullptr), "0:0");
  const RefPtr broken = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/etc", {}));
    store::Must(w.MakeDir("/etc/passwd", {}));
  });
  EXPECT_THAT(make("bob", "", broken), HasSubstr("/etc/passwd is not a regular file"));
}

TEST_F(FileOps, Llb6_87_ForksDoNotSeeEachOther) {
  pb::Op op = OpWith(0);
  Mkfile(Act(&op, -1, -1, -1), "/base", "b");
  Mkfile(Act(&op, 0, -1, 0), "/one", "1");
  Mkfile(Act(&op, 0, -1, 1), "/two", "2");
  Copy(Act(&op, 1, 2, 2), "/two", "/from-two");
  const auto outputs = RunAll(op, {});
  ASSERT_OK(outputs);
  ASSERT_EQ(outputs->size(), 3u);
  EXPECT_EQ(Show((*outputs)[0]), "base=b one=1 ");
  EXPECT_EQ(Show((*outputs)[1]), "base=b two=2 ");
  EXPECT_EQ(Show((*outputs)[2]), "base=b from-two=2 one=1 ");
}

TEST_F(FileOps, Llb6_87_ManyOutputsAtOnce) {
  pb::Op op = OpWith(1);
  constexpr int kOutputs = 50;
  for (int i = 0; i < kOutputs; ++i) {
    Mkdir(Act(&op, 0, -1, -1), absl::StrCat("/d", i));
    Mkfile(Act(&op, 1 + 2 * i, -1, i), absl::StrCat("/d", i, "/f"), absl::StrCat(i));
  }
  const auto outputs = RunAll(op, {Make(nullptr, "/x", "x")});
  ASSERT_OK(outputs);
  for (int i = 0; i < kOutputs; ++i)
    EXPECT_EQ(Show((*outputs)[static_cast<size_t>(i)]),
              absl::StrCat("d", i, "/ d", i, "/f=", i, " x=x "));
}

TEST_F(FileOps, Llb6_87_FailureNamesTheActionAndLeavesNothing) {
  store_->Drain();
  const auto before = Folders();
  pb::Op op = OpWith(0);
  Mkdir(Act(&op, -1, -1, -1), "/d");
  Mkfile(Act(&op, 0, -1, -1), "/none/f", "x");
  Mkdir(Act(&op, 1, -1, 0), "/e");
  auto result = Run(op);
  EXPECT_TRUE(absl::IsNotFound(result.status())) << result.status();
  EXPECT_EQ(FailedStepOf(result.status())->file_index, 1);
  EXPECT_TRUE(Details(result.status()).empty());
  result = absl::UnknownError("forgotten");
  store_->Drain();
  EXPECT_EQ(Folders(), before);
}

// The error holds the trees: what the failed action had written, and what it read.
TEST_F(FileOps, Llb6_29_FailureKeepsTheTreesOfTheAction) {
  const RefPtr base = Tree([](TreeWriter& w) { store::Must(w.MakeDir("/in", {.mode = 0755})); });
  store_->Drain();
  const auto before = Folders();
  pb::Op op = OpWith(1);
  Mkfile(Act(&op, -1, -1, -1), "/source", "s");
  Mkfile(Act(&op, 0, -1, -1), "/made", "m");
  Copy(Act(&op, 2, 1, 0), "/absent", "/x");
  absl::Status status = Run(op, {base}).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  absl::Status other = Annotate(status, "while building");
  status = absl::OkStatus();
  store_->Drain();
  const auto detail = FailedStepOf(other);
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->file_index, 2);
  EXPECT_THAT(detail->input_ids, ElementsAre(base->id()));
  ASSERT_EQ(detail->mount_ids.size(), 3u);
  EXPECT_EQ(Show(store::Must(store_->Get(detail->mount_ids[2]))), "in/ made=m ");
  EXPECT_EQ(Show(store::Must(store_->Get(detail->mount_ids[0]))), "source=s ");
  EXPECT_EQ(detail->mount_ids[1], "");
  const std::string id = detail->mount_ids[2];
  other = absl::OkStatus();
  store_->Drain();
  EXPECT_TRUE(absl::IsNotFound(store_->Get(id).status()));
  EXPECT_EQ(Folders(), before);
}

TEST_F(FileOps, CancelledOpsEnd) {
  CancelSource source;
  source.Cancel();
  context_.cancel_ = source.token();
  pb::Op op = OpWith(0);
  Mkdir(Act(&op, -1, -1, 0), "/d");
  EXPECT_TRUE(absl::IsCancelled(Run(op).status()));
}

TEST_F(FileOps, SocketsBecomeEmptyFiles) {
  const RefPtr from = Tree(
      [](TreeWriter& w) { store::Must(w.MakeNode("/sock", S_IFSOCK | 0700, 0, {.mode = 0700})); });
  const auto copied = RunCopy(nullptr, from, "/sock", "/x");
  ASSERT_OK(copied);
  EXPECT_EQ(Stat(*copied, "/x").st.st_mode, S_IFREG | 0700u);
}

}  // namespace
}  // namespace kiln::daemon
