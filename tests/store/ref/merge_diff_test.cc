#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::store {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

class RefStoreMergeDiff : public EachDriverTest {
 protected:
  RefPtr Merge(std::vector<RefPtr> inputs) { return Must(store_->Merge(inputs, {})); }
  RefPtr Diff(RefPtr lower, RefPtr upper) { return Must(store_->Diff(lower, upper, {})); }
  // Read without a mount, through one, and as the parent of a tree: always the same.
  std::string ShowAll(const RefPtr& ref) {
    const std::string direct = Show(ref), mounted = ShowMounted(ref);
    EXPECT_EQ(direct, mounted);
    auto child = Must(store_->New(ref, {}));
    auto mount = Must(store_->Mount(*child));
    EXPECT_EQ(Show(Layers{mount->path()}), direct);
    return direct;
  }
};
FOR_EACH_DRIVER(RefStoreMergeDiff);

TEST_P(RefStoreMergeDiff, Llb6_90_MergeOrderDecidesConflicts) {
  RefPtr a = Make(Make(nullptr, "/f", "a"), "/onlya", "1");
  RefPtr b = Make(Make(nullptr, "/f", "b"), "/onlyb", "2");
  EXPECT_EQ(ShowAll(Merge({a, b})), "f=b onlya=1 onlyb=2 ");
  EXPECT_EQ(ShowAll(Merge({b, a})), "f=a onlya=1 onlyb=2 ");
}

TEST_P(RefStoreMergeDiff, Llb6_90_DeletionInADiffRemovesOnlyWhatIsBelow) {
  RefPtr base = Make(Make(nullptr, "/f", "1"), "/g", "2");
  RefPtr without = Delete(base, "/f");
  RefPtr diff = Diff(base, without);
  RefPtr other = Make(nullptr, "/f", "other");
  EXPECT_EQ(ShowAll(Merge({other, diff})), "");
  EXPECT_EQ(ShowAll(Merge({diff, other})), "f=other ");
  EXPECT_EQ(ShowAll(Merge({base, diff})), "g=2 ");
}

TEST_P(RefStoreMergeDiff, Llb6_90_MergeOfBaseAndDiffIsTheUpper) {
  RefPtr base = Make(Make(nullptr, "/a", "1"), "/b", "2");
  RefPtr x = Make(Delete(base, "/a"), "/c", "3");
  RefPtr merged = Merge({base, Diff(base, x)});
  EXPECT_EQ(ShowAll(merged), "b=2 c=3 ");
  if (overlay()) {
    EXPECT_EQ(Must(merged->Materialize({})), Must(x->Materialize({}))) << "no file was made";
  }
}

TEST_P(RefStoreMergeDiff, Llb6_90_RepeatedWhiteoutsAreHarmless) {
  RefPtr base = Make(Make(nullptr, "/d/f", "1"), "/d/g", "2");
  RefPtr one = Diff(base, Make(Delete(base, "/d/f"), "/one", "1"));
  RefPtr two = Diff(base, Make(Delete(base, "/d/f"), "/two", "2"));
  EXPECT_EQ(ShowAll(Merge({base, one, two})), "d/ d/g=2 one=1 two=2 ");
  EXPECT_EQ(ShowAll(Merge({one, two, one})), "d/ one=1 two=2 ");
}

TEST_P(RefStoreMergeDiff, Llb6_91_HundredAndTenLayersCanBeMounted) {
  RefPtr ref;
  for (int i = 0; i < (overlay() ? 110 : 12); ++i) ref = Make(ref, absl::StrCat("/f", i), "x");
  auto child = Must(store_->New(ref, {}));
  auto mount = Must(store_->Mount(*child));
  const std::string shown = Show(Layers{mount->path()});
  EXPECT_THAT(shown, HasSubstr("f0=x"));
  EXPECT_THAT(shown, HasSubstr(overlay() ? "f109=x" : "f11=x"));
  std::ofstream(mount->path() + "/new") << "y";
  EXPECT_OK(mount->Close());
  EXPECT_THAT(ShowMounted(Must(child->Commit())), HasSubstr("new=y"));
}

TEST_P(RefStoreMergeDiff, Llb6_93_NothingMakesTheEmptyTree) {
  RefPtr a = Make(nullptr, "/f", "1");
  EXPECT_EQ(Diff(a, a), nullptr);
  EXPECT_EQ(Merge({}), nullptr);
  EXPECT_EQ(Merge({nullptr, nullptr}), nullptr);
  EXPECT_EQ(Diff(nullptr, nullptr), nullptr);
  EXPECT_EQ(ShowMounted(nullptr), "");
  // Two records with the same files differ in nothing either.
  RefPtr empty = Diff(a, Merge({a, Diff(a, a), a}));
  EXPECT_EQ(ShowAll(empty), "");
}

TEST_P(RefStoreMergeDiff, NilInputsAreLeftOut) {
  RefPtr a = Make(nullptr, "/f", "1");
  EXPECT_EQ(Merge({nullptr, a, nullptr}), a);
  EXPECT_EQ(Diff(nullptr, a), a);
}

TEST_P(RefStoreMergeDiff, LowerWithoutUpperDeletesEverything) {
  RefPtr a = Make(Make(nullptr, "/d/f", "1"), "/g", "2");
  RefPtr diff = Diff(a, nullptr);
  EXPECT_EQ(ShowAll(diff), "");
  EXPECT_EQ(ShowAll(Merge({Make(a, "/keep", "3"), diff})), "keep=3 ");
}

TEST_P(RefStoreMergeDiff, MakesNoFilesBeforeTheyAreWanted) {
  RefPtr base = Make(nullptr, "/a", "1");
  RefPtr x = Delete(base, "/a");
  const size_t before = Folders().size();
  RefPtr merged = Merge({Make(nullptr, "/b", "2"), Diff(base, x)});
  EXPECT_THAT(Folders(), SizeIs(before + 1));  // of /b
}

TEST_P(RefStoreMergeDiff, DiffOfUnrelatedTrees) {
  RefPtr a = Make(Make(Make(nullptr, "/d/same", "s"), "/d/gone", "g"), "/changed", "1");
  RefPtr b = Make(Make(Make(nullptr, "/d/same", "s"), "/d/new", "n"), "/changed", "2");
  RefPtr diff = Diff(a, b);
  EXPECT_THAT(ShowAll(diff),
              testing::AllOf(HasSubstr("changed=2"), HasSubstr("d/new=n"), Not(HasSubstr("gone"))));
  EXPECT_EQ(ShowAll(Merge({a, diff})), "changed=2 d/ d/new=n d/same=s ");
  EXPECT_EQ(ShowAll(Merge({Make(nullptr, "/d/gone", "x"), diff})), ShowAll(diff));
}

TEST_P(RefStoreMergeDiff, TypesReplaceEachOther) {
  RefPtr dir = Make(nullptr, "/p/inside", "1");
  RefPtr file = Make(nullptr, "/p", "file");
  EXPECT_EQ(ShowAll(Merge({dir, file})), "p=file ");
  EXPECT_EQ(ShowAll(Merge({file, dir})), "p/ p/inside=1 ");
  EXPECT_EQ(ShowAll(Merge({dir, file, Make(nullptr, "/p/other", "2")})), "p/ p/other=2 ");
}

TEST_P(RefStoreMergeDiff, AReplacedDirectoryHidesWhatWasBelow) {
  RefPtr base = Make(Make(nullptr, "/d/old", "1"), "/k", "k");
  RefPtr replaced = Make(Delete(base, "/d"), "/d/new", "2");
  RefPtr diff = Diff(base, replaced);
  RefPtr other = Make(nullptr, "/d/old", "x");
  EXPECT_EQ(ShowAll(Merge({other, diff})), "d/ d/new=2 ");
  EXPECT_EQ(ShowAll(diff), "d/ d/new=2 ");
}

TEST_P(RefStoreMergeDiff, ParentsOfADeletionAreStillMade) {
  RefPtr base = Make(nullptr, "/d/e/f", "1");
  RefPtr diff = Diff(base, Delete(base, "/d/e/f"));
  EXPECT_EQ(ShowAll(diff), "d/ d/e/ ");
  EXPECT_EQ(ShowAll(Merge({Make(nullptr, "/x", "1"), diff})), "d/ d/e/ x=1 ");
}

TEST_P(RefStoreMergeDiff, NestedMergesAndDiffsOfMerges) {
  RefPtr a = Make(nullptr, "/a", "1"), b = Make(nullptr, "/b", "2"), c = Make(nullptr, "/c", "3");
  RefPtr left = Merge({Merge({a, b}), c}), right = Merge({a, Merge({b, c})});
  EXPECT_EQ(ShowAll(left), "a=1 b=2 c=3 ");
  EXPECT_EQ(ShowAll(right), ShowAll(left));
  EXPECT_EQ(ShowAll(Diff(a, left)), "b=2 c=3 ");
  EXPECT_EQ(ShowAll(Diff(left, Delete(left, "/b"))), "");
  EXPECT_EQ(ShowAll(Merge({b, Diff(left, Delete(left, "/b"))})), "");
}

TEST_P(RefStoreMergeDiff, AMergeSurvivesARestartBeforeAndAfterItsFilesAreMade) {
  RefPtr base = Make(nullptr, "/a", "1");
  RefPtr merged = Merge({Make(nullptr, "/b", "2"), Diff(base, Delete(base, "/a"))});
  Must(store_->SetRetained(merged->id()));
  const std::string id = merged->id();
  merged.reset();
  base.reset();
  Restart();
  store_->Drain();
  EXPECT_EQ(ShowAll(Must(store_->Get(id))), "b=2 ");
  Restart();
  store_->Drain();
  EXPECT_EQ(ShowAll(Must(store_->Get(id))), "b=2 ");
}

TEST_P(RefStoreMergeDiff, AChildOfAMergeCanBeMergedAgain) {
  RefPtr base = Make(nullptr, "/a", "1");
  RefPtr merged = Merge({Make(nullptr, "/b", "2"), Diff(base, Delete(base, "/a"))});
  RefPtr child = Delete(Make(merged, "/c", "3"), "/b");
  EXPECT_EQ(ShowAll(child), "c=3 ");
  EXPECT_EQ(ShowAll(Merge({base, child})), "c=3 ") << "its diff deletes /a, and then /b";
  EXPECT_EQ(ShowAll(Merge({child, base})), "a=1 c=3 ");
}

TEST_P(RefStoreMergeDiff, MetadataComesAlong) {
  Attributes attributes;
  attributes.uid = 5;
  attributes.gid = 6;
  attributes.mode = 04751;
  attributes.mtime = absl::FromUnixSeconds(1000000000);
  auto tree = Must(store_->New(nullptr, {}));
  Must(tree->writer().WriteFile("/f", "1", attributes));
  Must(tree->writer().SetXattr("/f", "user.note", "hello"));
  Must(tree->writer().MakeSymlink("/l", "f", attributes));
  Must(tree->writer().MakeDir("/d", attributes));
  RefPtr a = Must(tree->Commit());
  RefPtr base = Make(nullptr, "/x", "1");
  RefPtr merged = Merge({a, Diff(base, Delete(base, "/x"))});
  auto mount = Must(store_->Mount(merged));
  for (const char* name : {"/f", "/d", "/l"}) {
    struct stat st = {};
    ASSERT_EQ(::lstat((mount->path() + name).c_str(), &st), 0);
    EXPECT_EQ(st.st_uid, 5u) << name;
    EXPECT_EQ(st.st_gid, 6u) << name;
    EXPECT_EQ(st.st_mtim.tv_sec, 1000000000) << name;
    if (!S_ISLNK(st.st_mode)) {
      EXPECT_EQ(st.st_mode & 07777, 04751u) << name;
    }
  }
  EXPECT_THAT(Must(HostXattrs(mount->path() + "/f")), testing::Contains(testing::Key("user.note")));
}

TEST_P(RefStoreMergeDiff, HardlinksInsideALayerStayTogether) {
  auto tree = Must(store_->New(nullptr, {}));
  Must(tree->writer().WriteFile("/one", "1", {}));
  Must(tree->writer().MakeHardlink("/two", "/one"));
  RefPtr links = Must(tree->Commit());
  RefPtr base = Make(nullptr, "/x", "1");
  RefPtr merged = Merge({Diff(base, Delete(base, "/x")), links, Make(nullptr, "/y", "1")});
  auto mount = Must(store_->Mount(merged));
  struct stat one = {}, two = {};
  ASSERT_EQ(::lstat((mount->path() + "/one").c_str(), &one), 0);
  ASSERT_EQ(::lstat((mount->path() + "/two").c_str(), &two), 0);
  EXPECT_EQ(one.st_ino, two.st_ino);
}

TEST_P(RefStoreMergeDiff, MaterializeCanBeCancelled) {
  RefPtr base = Make(nullptr, "/a", "1");
  RefPtr merged = Merge({Make(nullptr, "/b", "2"), Diff(base, Delete(base, "/a"))});
  CancelSource source;
  source.Cancel();
  EXPECT_EQ(merged->Materialize(source.token()).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(Show(merged), "b=2 ") << "a later caller is not touched by that";
}

// Layers beyond what the kernel takes are put into one.
class RefStoreLongChains : public RefStoreTest {
 protected:
  LocalRefStoreOptions Options() override {
    LocalRefStoreOptions options;
    options.driver = DriverKind::kOverlay;
    options.max_layers = 5;
    return options;
  }
};

TEST_F(RefStoreLongChains, AreFlattened) {
  RefPtr ref = Make(nullptr, "/gone", "1");
  ref = Delete(ref, "/gone");
  std::vector<RefPtr> chain;
  for (int i = 0; i < 30; ++i) {
    ref = Make(ref, absl::StrCat("/d/f", i % 12), absl::StrCat(i));
    chain.push_back(ref);
    EXPECT_LE(Must(ref->Materialize({})).size(), 6u);
  }
  for (const RefPtr& link : chain) {
    EXPECT_THAT(Show(link), Not(HasSubstr("gone")));
    EXPECT_EQ(Show(link), ShowMounted(link));
  }
  EXPECT_THAT(Show(ref), HasSubstr("d/f11=23"));
  EXPECT_THAT(Show(ref), HasSubstr("d/f5=29"));
  // What a layer changed stays known behind a flattened one.
  EXPECT_EQ(Show(Must(store_->Diff(chain[27], chain[29], {}))), "d/ d/f4=28 d/f5=29 ");
  RefPtr other = Make(nullptr, "/gone", "other");
  EXPECT_THAT(Show(Must(store_->Merge(std::vector<RefPtr>{other, ref}, {}))),
              Not(HasSubstr("gone")))
      << "the chain deletes it";
}

TEST_F(RefStoreLongChains, MergesAreFlattened) {
  RefPtr ref;
  for (int i = 0; i < 12; ++i) {
    RefPtr next = Make(nullptr, absl::StrCat("/f", i), "x");
    ref = ref == nullptr ? next : Must(store_->Merge(std::vector<RefPtr>{ref, next}, {}));
  }
  EXPECT_LE(Must(ref->Materialize({})).size(), 5u);
  EXPECT_THAT(ShowMounted(Make(ref, "/last", "1")), testing::EndsWith("f9=x last=1 "));
}

using RefStoreChecksums = EachDriverTest;
FOR_EACH_DRIVER(RefStoreChecksums);

TEST_P(RefStoreChecksums, OfTheEmptyTree) {
  EXPECT_EQ(Must(store_->Checksum(nullptr, "/", {}, {})), Digest::Of(""));
  EXPECT_EQ(store_->Checksum(nullptr, "/x", {}, {}).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(RefStoreChecksums, AreRecordedWhileWrittenAndSurviveARestart) {
  RefPtr ref = Make(Make(nullptr, "/d/a", "1"), "/d/b", "2");
  const Digest before = Must(store_->Checksum(ref, "/d", {}, {}));
  if (overlay()) {
    EXPECT_EQ(store_->checksums().files_hashed(), 0);
  }
  const std::string id = ref->id();
  ref.reset();
  Restart();
  EXPECT_EQ(Must(store_->Checksum(Must(store_->Get(id)), "/d", {}, {})), before);
  EXPECT_EQ(store_->checksums().files_hashed(), 0);
}

TEST_P(RefStoreChecksums, AProcessThroughAMountVoidsWhatWasRecorded) {
  std::string id;
  {
    auto tree = Must(store_->New(nullptr, {.retain = true}));
    id = tree->id();
    Must(tree->writer().WriteFile("/f", "1", {}));
  }
  store_->Drain();
  auto tree = Must(store_->Reopen(id));
  {
    auto mount = Must(store_->Mount(*tree));
    std::ofstream(mount->path() + "/f") << "2";
  }
  RefPtr changed = Must(tree->Commit());
  EXPECT_EQ(Must(store_->Checksum(changed, "/f", {}, {})),
            Must(store_->Checksum(Make(nullptr, "/f", "2"), "/f", {}, {})));
}

TEST_P(RefStoreChecksums, OfAMergeAreThoseOfItsParts) {
  RefPtr base = Make(nullptr, "/x", "1");
  RefPtr merged =
      Must(store_->Merge(std::vector<RefPtr>{Make(nullptr, "/d/a", "1"),
                                             Must(store_->Diff(base, Delete(base, "/x"), {})),
                                             Make(nullptr, "/d/b", "2")},
                         {}));
  const Digest digest = Must(store_->Checksum(merged, "/d/a", {}, {}));
  EXPECT_EQ(digest, Must(store_->Checksum(Make(nullptr, "/other", "1"), "/other", {}, {})));
  if (overlay()) {
    EXPECT_EQ(store_->checksums().files_hashed(), 0) << "known checksums come along";
  }
}

TEST_P(RefStoreChecksums, TheRootOfASynchronizedTreeHasNoHeader) {
  auto one = Must(store_->New(nullptr, {}));
  auto two = Must(store_->New(nullptr, {}));
  Attributes attributes;
  attributes.mode = 0700;
  Must(two->writer().SetAttributes("/", attributes));
  for (auto* tree : {one.get(), two.get()}) {
    Must(tree->writer().WriteFile("/f", "1", {}));
    tree->UseSynchronizedRoot();
  }
  EXPECT_EQ(Must(store_->Checksum(Must(one->Commit()), "/", {}, {})),
            Must(store_->Checksum(Must(two->Commit()), "/", {}, {})));
}

}  // namespace
}  // namespace kiln::store
