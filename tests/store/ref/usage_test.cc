#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class RefStoreUsage : public EachDriverTest {
 protected:
  std::map<std::string, UsageInfo> Usage(std::vector<std::string> filters = {}) {
    std::map<std::string, UsageInfo> out;
    for (UsageInfo& info : Must(store_->DiskUsage(filters))) out[info.id] = info;
    return out;
  }
  std::vector<std::string> Prune(const PruneOptions& options = {}) {
    std::vector<std::string> removed;
    Must(store_->Prune(options, {}, [&](const UsageInfo& info) { removed.push_back(info.id); }));
    return removed;
  }
  static std::string Bytes(size_t count) { return std::string(count, 'x'); }
};
FOR_EACH_DRIVER(RefStoreUsage);

TEST_P(RefStoreUsage, Llb6_107_PairIsListedOnceAndInUseIsRight) {
  auto tree = Must(store_->New(nullptr, {.record_type = "source.local", .retain = true}));
  const std::string mutable_id = tree->id();
  EXPECT_TRUE(Usage()[mutable_id].in_use);
  EXPECT_EQ(Usage()[mutable_id].size_bytes, 0) << "it is changing";
  Must(tree->writer().WriteFile("/f", Bytes(100'000), {}));
  RefPtr ref = Must(tree->Commit());
  const std::string id = ref->id();
  Must(store_->SetRetained(id));
  {
    const auto usage = Usage();
    ASSERT_THAT(usage, SizeIs(1));
    EXPECT_TRUE(usage.at(id).in_use);
    EXPECT_FALSE(usage.at(id).is_mutable);
    EXPECT_GE(usage.at(id).size_bytes, 100'000);
  }
  ref.reset();
  store_->Drain();
  const auto usage = Usage();
  ASSERT_THAT(usage, SizeIs(1));
  EXPECT_FALSE(usage.at(mutable_id).in_use);
  EXPECT_TRUE(usage.at(mutable_id).is_mutable);
  EXPECT_GE(usage.at(mutable_id).size_bytes, 100'000);
  EXPECT_LT(usage.at(mutable_id).size_bytes, 130'000);
}

TEST_P(RefStoreUsage, Llb6_107_ParentsOfWhatIsUsedAreInUse) {
  RefPtr base = Make(nullptr, "/a", "1");
  const std::string base_id = base->id();
  RefPtr child = Make(base, "/b", "2");
  const std::string child_id = child->id();
  base.reset();
  EXPECT_TRUE(Usage()[base_id].in_use);
  child.reset();
  EXPECT_FALSE(Usage()[base_id].in_use);
  EXPECT_THAT(Usage()[child_id].parents, ElementsAre(base_id));
  auto temporary = Must(store_->New(Must(store_->Get(child_id)), {.description = "step"}));
  const auto usage = Usage();
  EXPECT_THAT(usage, SizeIs(3));
  EXPECT_TRUE(usage.at(base_id).in_use);
  EXPECT_EQ(usage.at(temporary->id()).description, "step");
  EXPECT_EQ(usage.at(temporary->id()).size_bytes, 0);
}

TEST_P(RefStoreUsage, CountsUses) {
  const std::string id = Make(nullptr, "/a", "1")->id();
  store_->Drain();
  const UsageInfo first = Usage()[id];
  EXPECT_EQ(first.usage_count, 1);
  EXPECT_GE(first.last_used_at, first.created_at);
  Must(store_->Get(id)).reset();
  store_->Drain();
  EXPECT_EQ(Usage()[id].usage_count, 2);
  Restart();
  EXPECT_EQ(Usage()[id].usage_count, 2);
}

TEST_P(RefStoreUsage, Filters) {
  const std::string local = Make(nullptr, "/a", "1", {.record_type = "source.local"})->id();
  const std::string other = Make(nullptr, "/b", "1", {.description = "hello world"})->id();
  EXPECT_THAT(Usage({"type==source.local"}), SizeIs(1));
  EXPECT_THAT(Usage({"type==regular"}), SizeIs(1));
  EXPECT_THAT(Usage({"description~=world"}), SizeIs(1));
  EXPECT_THAT(Usage({"id==" + local, "id==" + other}), SizeIs(2));
  EXPECT_THAT(Usage({"mutable"}), IsEmpty());
  EXPECT_THAT(Usage({"immutable,private"}), SizeIs(2));
  EXPECT_EQ(store_->DiskUsage(std::vector<std::string>{"type=="}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(RefStoreUsage, Llb6_104_PruneTakesChildrenBeforeParentsAndLeavesWhatIsHeld) {
  const std::string base = Make(nullptr, "/a", "1")->id();
  const std::string child = Make(Must(store_->Get(base)), "/b", "2")->id();
  RefPtr held = Make(Must(store_->Get(child)), "/c", "3");
  auto writing = Must(store_->New(nullptr, {.retain = true}));
  store_->Drain();
  EXPECT_THAT(Prune(), IsEmpty());
  const std::string held_id = held->id();
  held.reset();
  store_->Drain();
  EXPECT_THAT(Prune(), ElementsAre(held_id, child, base));
  EXPECT_THAT(Folders(), SizeIs(1)) << "of the mutable in use";
  Must(writing->writer().WriteFile("/f", "1", {}));
  EXPECT_EQ(Show(Must(writing->Commit())), "f=1 ");
}

TEST_P(RefStoreUsage, PruneOfAPairTakesBothHalves) {
  auto tree = Must(store_->New(nullptr, {.retain = true}));
  const std::string mutable_id = tree->id();
  RefPtr ref = Must(tree->Commit());
  const std::string id = ref->id();
  Must(store_->SetRetained(id));
  ref.reset();
  store_->Drain();
  EXPECT_THAT(Prune(), ElementsAre(mutable_id));
  EXPECT_EQ(store_->Get(id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Folders(), IsEmpty());
}

TEST_P(RefStoreUsage, G4_InternalRecordsGoOnlyWithAll) {
  const std::string internal = Make(nullptr, "/a", "1", {.record_type = "internal"})->id();
  const std::string frontend = Make(nullptr, "/a", "1", {.record_type = "frontend"})->id();
  store_->Drain();
  EXPECT_THAT(Prune(), IsEmpty());
  EXPECT_THAT(Prune({.all = true}), UnorderedElementsAre(internal, frontend));
}

TEST_P(RefStoreUsage, G4_PruneHonoursFiltersAndAge) {
  const std::string local = Make(nullptr, "/a", "1", {.record_type = "source.local"})->id();
  const std::string regular = Make(nullptr, "/b", "1")->id();
  store_->Drain();
  EXPECT_THAT(Prune({.keep_duration = absl::Hours(1)}), IsEmpty());
  EXPECT_THAT(Prune({.filters = {"type==source.local"}}), ElementsAre(local));
  EXPECT_THAT(Prune(), ElementsAre(regular));
  EXPECT_EQ(store_->Prune({.filters = {"("}}, {}, nullptr).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(RefStoreUsage, G3_ARuleTakesOnlyItsKind) {
  const std::string regular = Make(nullptr, "/f", Bytes(10'000'000))->id();
  const std::string old =
      Make(nullptr, "/f", Bytes(600'000), {.record_type = "exec.cachemount"})->id();
  const std::string source =
      Make(nullptr, "/f", Bytes(1'000), {.record_type = "source.local"})->id();
  store_->Drain();
  const std::vector<std::string> kinds = {"type==source.local", "type==exec.cachemount"};
  EXPECT_THAT(
      Prune({.filters = kinds, .keep_duration = absl::Hours(48), .max_used_bytes = 512'000}),
      IsEmpty())
      << "used just now";
  EXPECT_THAT(Prune({.filters = kinds, .max_used_bytes = 512'000}),
              UnorderedElementsAre(old, source));
  EXPECT_EQ(Usage().count(regular), 1u);
}

TEST_P(RefStoreUsage, G2_Llb6_105_MaxUsedKeepsTheLatestAndMostUsed) {
  std::vector<std::string> ids;
  for (int i = 0; i < 6; ++i) {
    ids.push_back(Make(nullptr, "/f", Bytes(1'000'000))->id());
    store_->Drain();
  }
  for (int i : {1, 1, 4}) {
    Must(store_->Get(ids[i])).reset();
    store_->Drain();
  }
  EXPECT_THAT(Prune({.max_used_bytes = 3'100'000}), ElementsAre(ids[0], ids[2], ids[3]));
  int64_t total = 0;
  for (const auto& [id, info] : Usage()) total += info.size_bytes;
  EXPECT_LT(total, 3'100'000);
  EXPECT_THAT(Prune({.max_used_bytes = 3'100'000}), IsEmpty());
}

// Either rank alone would take others first.
TEST_P(RefStoreUsage, G2_LastUseAndCountWeighTogether) {
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) {
    ids.push_back(Make(nullptr, "/f", Bytes(1'000'000))->id());
    store_->Drain();
  }
  for (int i : {0, 0, 0, 2, 3, 1}) {
    Must(store_->Get(ids[i])).reset();
    store_->Drain();
  }
  // Last used in the order 4, 0, 2, 3, 1, and 1, 4, 2, 2, 2 times. The lowest sums of positions:
  // 4 with 2/6 + 2/4, then 2 with 3/5 + 2/3 (0 has 2/5 + 3/3), then 3 with 3/4 + 2/3 (0: 2/4 +
  // 3/3).
  EXPECT_THAT(Prune({.max_used_bytes = 2'100'000}), ElementsAre(ids[4], ids[2], ids[3]));
}

// A parent is held by its children, however old it is.
TEST_P(RefStoreUsage, G2_ParentsGoAfterTheirChildren) {
  const std::string parent = Make(nullptr, "/f", Bytes(200'000))->id();
  const std::string child = Make(Must(store_->Get(parent)), "/g", Bytes(1'000'000))->id();
  std::vector<std::string> others;
  for (int i = 0; i < 3; ++i) {
    others.push_back(Make(nullptr, "/f", Bytes(1'000'000))->id());
    store_->Drain();
  }
  for (const std::string& id : {child, child, child, others[2], others[2], others[2], others[2]}) {
    Must(store_->Get(id)).reset();
    store_->Drain();
  }
  EXPECT_THAT(Prune({.max_used_bytes = 2'800'000}), ElementsAre(others[0], others[1]));
  EXPECT_THAT(Prune({.max_used_bytes = 1'100'000}), ElementsAre(child, parent));
}

TEST_P(RefStoreUsage, Llb6_105_ReservedIsNotUndercut) {
  for (int i = 0; i < 4; ++i) Make(nullptr, "/f", Bytes(1'000'000));
  store_->Drain();
  EXPECT_THAT(Prune({.reserved_bytes = 3'500'000, .max_used_bytes = 1'000'000}), SizeIs(1));
  EXPECT_THAT(Usage(), SizeIs(3));
}

TEST_P(RefStoreUsage, Llb6_105_MinFreeUnmetDeletesMetDeletesNothing) {
  const std::string id = Make(nullptr, "/f", Bytes(1'000'000))->id();
  store_->Drain();
  EXPECT_THAT(Prune({.min_free_bytes = 1}), IsEmpty());
  EXPECT_THAT(Prune({.min_free_bytes = int64_t{1} << 60}), ElementsAre(id));
}

TEST_P(RefStoreUsage, TheRunningTotalFollowsNewRecords) {
  Make(nullptr, "/f", Bytes(1'000'000));
  store_->Drain();
  EXPECT_THAT(Prune({.max_used_bytes = 1'500'000}), IsEmpty());
  Make(nullptr, "/f", Bytes(1'000'000));
  store_->Drain();
  EXPECT_THAT(Prune({.max_used_bytes = 1'500'000}), SizeIs(1));
  EXPECT_THAT(Prune({.max_used_bytes = 1'500'000}), IsEmpty());
}

TEST_P(RefStoreUsage, SizeOfAMergeCountsOnlyItsOwn) {
  RefPtr a = Make(nullptr, "/a", Bytes(1'000'000)), x = Make(nullptr, "/x", "1");
  RefPtr merged =
      Must(store_->Merge(std::vector<RefPtr>{Must(store_->Diff(x, Delete(x, "/x"), {})), a}, {}));
  EXPECT_OK(merged->Materialize({}));
  EXPECT_LT(Usage()[merged->id()].size_bytes, 100'000);
  int64_t total = 0;
  for (const auto& [id, info] : Usage()) total += info.size_bytes;
  EXPECT_LT(total, 1'200'000);
}

TEST_P(RefStoreUsage, RemovedRecordsAreReported) {
  Close();
  root_ = Must(Root::Open(dir_ + "/root"));
  database_ = Must(OpenDatabase(*root_));
  std::vector<std::string> gone;
  LocalRefStoreOptions options = Options();
  options.root = root_.get();
  options.database = database_.get();
  options.on_removed = [&](absl::string_view id) { gone.emplace_back(id); };
  store_ = Must(LocalRefStore::Open(options));
  const std::string id = Make(nullptr, "/f", "1")->id();
  store_->Drain();
  Prune();
  EXPECT_THAT(gone, ElementsAre(id));
}

TEST_P(RefStoreUsage, PruneCanBeCancelled) {
  Make(nullptr, "/f", "1");
  store_->Drain();
  CancelSource source;
  source.Cancel();
  EXPECT_EQ(store_->Prune({}, source.token(), nullptr).code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(Usage(), SizeIs(1));
}

}  // namespace
}  // namespace kiln::store
