#include "tests/store/ref/store_fixture.h"

namespace kiln::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

using RefStoreBasics = EachDriverTest;

TEST_P(RefStoreBasics, CommittedTreeShowsParentAndChange) {
  RefPtr base = Make(nullptr, "/a", "1");
  RefPtr child = Make(base, "/b", "2");
  EXPECT_EQ(Show(child), "a=1 b=2 ");
  EXPECT_EQ(Show(base), "a=1 ");
  EXPECT_EQ(ShowMounted(child), "a=1 b=2 ");
}

TEST_P(RefStoreBasics, GetAfterRestart) {
  const std::string id = Make(Make(nullptr, "/a", "1"), "/b", "2")->id();
  Restart();
  EXPECT_EQ(Show(Must(store_->Get(id))), "a=1 b=2 ");
}

TEST_P(RefStoreBasics, GetOfNothingIsNotFound) {
  EXPECT_EQ(store_->Get("").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->Get("nosuchref").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->Get(std::string(25, 'x')).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(RefStoreBasics, DroppedMutableLeavesNothing) {
  auto tree = Must(store_->New(nullptr, {}));
  const std::string id = tree->id();
  EXPECT_THAT(Folders(), SizeIs(1));
  tree.reset();
  store_->Drain();
  EXPECT_THAT(Folders(), IsEmpty());
  EXPECT_EQ(store_->Reopen(id).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(RefStoreBasics, UnretainedImmutableGoesWithItsLastHold) {
  auto tree = Must(store_->New(nullptr, {}));
  RefPtr ref = Must(tree->Commit());
  tree.reset();
  const std::string id = ref->id();
  RefPtr second = Must(store_->Get(id));
  ref.reset();
  store_->Drain();
  EXPECT_OK(second->Materialize({}));
  EXPECT_THAT(Folders(), SizeIs(1));
  second.reset();
  store_->Drain();
  EXPECT_EQ(store_->Get(id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Folders(), IsEmpty());
}

TEST_P(RefStoreBasics, UnretainedParentsGoWithTheirLastChild) {
  RefPtr parent = Must(Must(store_->New(nullptr, {}))->Commit());
  RefPtr child = Must(Must(store_->New(parent, {}))->Commit());
  const std::string parent_id = parent->id();
  parent.reset();
  store_->Drain();
  EXPECT_OK(store_->Get(parent_id));
  child.reset();
  store_->Drain();
  EXPECT_THAT(Folders(), IsEmpty());
  EXPECT_EQ(store_->Get(parent_id).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(RefStoreBasics, RetainedImmutableStays) {
  const std::string id = Make(nullptr, "/a", "1")->id();
  store_->Drain();
  EXPECT_EQ(Show(Must(store_->Get(id))), "a=1 ");
}

TEST_P(RefStoreBasics, WritableMountWritesIntoTheTree) {
  RefPtr base = Make(nullptr, "/a", "1");
  auto tree = Must(store_->New(base, {}));
  {
    auto mount = Must(store_->Mount(*tree));
    EXPECT_EQ(Show(Layers{mount->path()}), "a=1 ");
    std::ofstream(mount->path() + "/a") << "changed";
    std::ofstream(mount->path() + "/b") << "new";
    ASSERT_OK(mount->Close());
  }
  RefPtr ref = Must(tree->Commit());
  EXPECT_EQ(Show(ref), "a=changed b=new ");
  EXPECT_EQ(Show(base), "a=1 ");
}

TEST_P(RefStoreBasics, UsersOfOneMutableShareItsMount) {
  RefPtr base = Make(nullptr, "/a", "1");
  auto tree = Must(store_->New(base, {}));
  auto one = Must(store_->Mount(*tree));
  auto two = Must(store_->Mount(*tree));
  EXPECT_EQ(one->path(), two->path());
  std::ofstream(one->path() + "/b") << "2";
  EXPECT_OK(one->Close());
  EXPECT_EQ(Show(Layers{two->path()}), "a=1 b=2 ");
  EXPECT_EQ(tree->Commit().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_OK(two->Close());
  EXPECT_EQ(Show(Must(tree->Commit())), "a=1 b=2 ");
}

TEST_P(RefStoreBasics, ReadOnlyMountOfTheEmptyTree) {
  auto mount = Must(store_->Mount(RefPtr()));
  EXPECT_EQ(Show(Layers{mount->path()}), "");
  EXPECT_FALSE(OpenFile(mount->path() + "/x", O_CREAT | O_WRONLY).ok());
}

TEST_P(RefStoreBasics, ImmutableMountsAreReadOnly) {
  RefPtr ref = Make(Make(nullptr, "/a", "1"), "/b", "2");
  auto mount = Must(store_->Mount(ref));
  EXPECT_FALSE(OpenFile(mount->path() + "/x", O_CREAT | O_WRONLY).ok());
}

TEST_P(RefStoreBasics, RetainedMutableIsReopenedWithItsFiles) {
  std::string id;
  {
    auto tree = Must(store_->New(nullptr, {.retain = true, .index_key = "cache-dir:x"}));
    id = tree->id();
    Must(tree->writer().WriteFile("/f", "1", {}));
    EXPECT_EQ(store_->Reopen(id).status().code(), absl::StatusCode::kFailedPrecondition);
  }
  Restart();
  EXPECT_THAT(Must(store_->Search("cache-dir:x")), ElementsAre(id));
  auto again = Must(store_->Reopen(id));
  EXPECT_EQ(Show(Must(again->layers())), "f=1 ");
}

TEST_P(RefStoreBasics, SetRetainDecidesAfterAll) {
  auto kept = Must(store_->New(nullptr, {}));
  const std::string kept_id = kept->id();
  kept->SetRetain(true);
  auto dropped = Must(store_->New(nullptr, {.retain = true}));
  const std::string dropped_id = dropped->id();
  dropped->SetRetain(false);
  kept.reset();
  dropped.reset();
  store_->Drain();
  EXPECT_OK(store_->Reopen(kept_id));
  EXPECT_EQ(store_->Reopen(dropped_id).status().code(), absl::StatusCode::kNotFound);
  store_->Drain();
  EXPECT_THAT(Folders(), SizeIs(1));
}

TEST_P(RefStoreBasics, CommitOfARetainedMutableCanBeReopened) {
  auto tree = Must(store_->New(nullptr, {.record_type = "source.local", .retain = true}));
  const std::string mutable_id = tree->id();
  Must(tree->writer().WriteFile("/f", "1", {}));
  RefPtr ref = Must(tree->Commit());
  tree.reset();
  EXPECT_NE(ref->id(), mutable_id);
  EXPECT_EQ(Show(ref), "f=1 ");
  EXPECT_EQ(store_->Reopen(mutable_id).status().code(), absl::StatusCode::kFailedPrecondition)
      << "its immutable is held";
  const std::string ref_id = ref->id();
  Must(store_->SetRetained(ref_id));
  ref.reset();
  auto again = Must(store_->Reopen(mutable_id));
  EXPECT_EQ(Show(Must(again->layers())), "f=1 ");
  EXPECT_EQ(store_->Get(ref_id).status().code(), absl::StatusCode::kNotFound)
      << "what it showed may change now";
  Must(again->writer().WriteFile("/f", "2", {}));
  EXPECT_EQ(Show(Must(again->Commit())), "f=2 ");
}

TEST_P(RefStoreBasics, AChildMakesTheImmutableHalfTheOwner) {
  auto tree = Must(store_->New(nullptr, {.retain = true}));
  const std::string mutable_id = tree->id();
  Must(tree->writer().WriteFile("/f", "1", {}));
  RefPtr ref = Must(tree->Commit());
  RefPtr child = Make(ref, "/g", "2");
  const std::string child_id = child->id();
  ref.reset();
  child.reset();
  EXPECT_EQ(store_->Reopen(mutable_id).status().code(), absl::StatusCode::kNotFound);
  Restart();
  EXPECT_EQ(Show(Must(store_->Get(child_id))), "f=1 g=2 ");
}

TEST_P(RefStoreBasics, BothHalvesOfAPairAreKept) {
  auto tree = Must(store_->New(nullptr, {.retain = true}));
  const std::string mutable_id = tree->id();
  Must(tree->writer().WriteFile("/f", "1", {}));
  RefPtr ref = Must(tree->Commit());
  tree.reset();
  const std::string ref_id = ref->id();
  EXPECT_EQ(store_->HoldIdle(mutable_id).status().code(), absl::StatusCode::kFailedPrecondition)
      << "it is held already";
  ref.reset();
  store_->Drain();
  Restart();
  ref = Must(store_->HoldIdle(mutable_id));
  EXPECT_EQ(ref->id(), ref_id);
  EXPECT_EQ(Show(ref), "f=1 ");
  EXPECT_EQ(store_->Reopen(mutable_id).status().code(), absl::StatusCode::kFailedPrecondition);
  ref.reset();
  tree = Must(store_->Reopen(mutable_id));
  EXPECT_EQ(store_->HoldIdle(mutable_id).status().code(), absl::StatusCode::kFailedPrecondition);
  tree.reset();
  EXPECT_EQ(store_->HoldIdle(mutable_id).status().code(), absl::StatusCode::kNotFound)
      << "the mutable was not committed again";
}

TEST_P(RefStoreBasics, WhoHoldsACommittedTreeAloneMayRewriteIt) {
  auto tree = Must(store_->New(nullptr, {.retain = true, .index_key = "k"}));
  const std::string mutable_id = tree->id();
  Must(tree->writer().WriteFile("/f", "1", {}));
  RefPtr ref = Must(tree->Commit());
  tree.reset();
  const std::string ref_id = ref->id();
  RefPtr other = Must(store_->Get(ref_id));
  EXPECT_EQ(store_->Rewrite(ref).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Show(ref), "f=1 ");
  other.reset();
  tree = Must(store_->Rewrite(ref));
  ref.reset();
  EXPECT_EQ(tree->id(), mutable_id);
  EXPECT_EQ(store_->Get(ref_id).status().code(), absl::StatusCode::kNotFound);
  Must(tree->writer().WriteFile("/g", "2", {}));
  ref = Must(tree->Commit());
  tree.reset();
  EXPECT_EQ(Show(ref), "f=1 g=2 ");
  Make(ref, "/h", "3").reset();
  EXPECT_EQ(store_->Rewrite(ref).status().code(), absl::StatusCode::kNotFound)
      << "a child made it the owner of its files";
  EXPECT_THAT(Must(store_->Search("k")), IsEmpty());
  EXPECT_EQ(Show(ref), "f=1 g=2 ");
  const RefPtr single = Make(nullptr, "/x", "1");
  EXPECT_EQ(store_->Rewrite(single).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(RefStoreBasics, ValuesAndIndexKeysSurvive) {
  auto tree = Must(store_->New(nullptr, {.index_key = "url"}));
  Must(store_->SetValue(tree->id(), "etag", std::string("a\0b", 3)));
  RefPtr ref = Must(tree->Commit());
  const std::string id = ref->id();
  Must(store_->SetIndexKey(id, "other"));
  Must(store_->SetRetained(id));
  ref.reset();
  Restart();
  EXPECT_EQ(Must(store_->GetValue(id, "etag")), std::string("a\0b", 3));
  EXPECT_EQ(store_->GetValue(id, "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Must(store_->Search("url")), ElementsAre(id));
  EXPECT_THAT(Must(store_->Search("other")), ElementsAre(id));
  EXPECT_THAT(Must(store_->Search("ur")), IsEmpty());
}

TEST_P(RefStoreBasics, SearchGivesTheLatestUsedFirst) {
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    auto tree = Must(store_->New(nullptr, {.retain = true, .index_key = "k"}));
    ids.push_back(tree->id());
    tree.reset();
    store_->Drain();
  }
  EXPECT_THAT(Must(store_->Search("k")), ElementsAre(ids[2], ids[1], ids[0]));
  Must(store_->Reopen(ids[1])).reset();
  store_->Drain();
  EXPECT_THAT(Must(store_->Search("k")), ElementsAre(ids[1], ids[2], ids[0]));
}

TEST_P(RefStoreBasics, RootDirectoryTakesTheParentsMetadata) {
  auto tree = Must(store_->New(nullptr, {}));
  Attributes attributes;
  attributes.uid = 7;
  attributes.gid = 8;
  attributes.mode = 01777;
  Must(tree->writer().SetAttributes("/", attributes));
  RefPtr base = Must(tree->Commit());
  auto child = Must(store_->New(base, {}));
  struct stat st = {};
  ASSERT_EQ(::stat(child->upper_dir().c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 7u);
  EXPECT_EQ(st.st_gid, 8u);
  EXPECT_EQ(st.st_mode & 07777, 01777u);
}

TEST_P(RefStoreBasics, StartSweepsWhatNoRecordNames) {
  store_->Drain();  // this start's own sweep
  RefPtr kept = Make(nullptr, "/a", "1");
  auto left = Must(store_->New(nullptr, {}));
  // Never destroyed, as after a kill; kept reachable, so that it does not count as a leak.
  static auto* const killed = new std::vector<MutableRef*>;
  killed->push_back(left.release());
  std::filesystem::create_directory(dir_ + "/root/snapshots/77.removed");
  const std::string id = kept->id();
  kept.reset();
  EXPECT_THAT(Folders(), SizeIs(3));
  Restart();
  store_->Drain();
  EXPECT_THAT(Folders(), SizeIs(1));
  EXPECT_EQ(Show(Must(store_->Get(id))), "a=1 ");
}

TEST_P(RefStoreBasics, ARecordWithoutFilesIsDroppedWithItsChildren) {
  RefPtr base = Make(nullptr, "/a", "1");
  RefPtr child = Make(base, "/b", "2");
  const std::string base_id = base->id(), child_id = child->id();
  const std::string files = Must(base->Materialize({})).front();
  base.reset();
  child.reset();
  Close();
  std::filesystem::remove_all(std::filesystem::path(files).parent_path());
  Open();
  EXPECT_EQ(store_->Get(base_id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->Get(child_id).status().code(), absl::StatusCode::kNotFound);
  store_->Drain();
  EXPECT_THAT(Folders(), IsEmpty());
}

TEST_P(RefStoreBasics, RefsOfAnotherStoreAreRefused) {
  class Foreign : public Ref {
   public:
    const std::string& id() const override { return id_; }
    absl::StatusOr<Layers> Materialize(const CancelToken&) const override { return Layers(); }

   private:
    const std::string id_ = "foreign";
  };
  EXPECT_EQ(store_->New(std::make_shared<Foreign>(), {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

FOR_EACH_DRIVER(RefStoreBasics);

TEST_F(RefStoreTest, AnotherDriverIsRefused) {
  Close();
  auto root = Must(Root::Open(dir_ + "/root"));
  auto database = Must(OpenDatabase(*root));
  const absl::Status status =
      LocalRefStore::Open(
          {.root = root.get(), .database = database.get(), .driver = DriverKind::kNative})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("overlay driver"));
}

}  // namespace
}  // namespace kiln::store
