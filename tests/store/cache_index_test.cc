// What every CacheIndex does, run against each of them.
#include "store/cache_index.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/memory_cache_index.h"
#include "tests/store/cache_index_factory.h"

namespace kiln::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

using Inputs = std::vector<std::vector<InputKey>>;

const OpOutput kFoo = {"sha256:foo", 0};
const OpOutput kBar = {"sha256:bar", 0};
const OpOutput kBaz = {"sha256:baz", 0};

CacheRecord Record(const std::string& id, int64_t seconds = 100, uint8_t priority = 0) {
  return {id, absl::FromUnixSeconds(seconds), priority};
}

class CacheIndexTest : public testing::TestWithParam<CacheIndexFactory> {
 protected:
  void SetUp() override { index_ = GetParam().make(); }

  KeyId Save(const OpOutput& op, const Inputs& inputs, const CacheRecord& record) {
    auto key = index().Save(op, inputs, record);
    EXPECT_TRUE(key.ok()) << key.status();
    return key.value_or(KeyId());
  }
  std::vector<KeyId> Query(const std::vector<InputKey>& keys, const OpOutput& op, int input = 0) {
    auto found = index().Query(keys, input, op);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.value_or(std::vector<KeyId>());
  }
  std::vector<KeyId> Match(const Inputs& inputs, const OpOutput& op) {
    auto found = index().Match(inputs, op);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.value_or(std::vector<KeyId>());
  }
  std::vector<std::string> ResultsOf(const KeyId& key) {
    auto records = index().Records(key);
    EXPECT_TRUE(records.ok()) << records.status();
    std::vector<std::string> ids;
    if (records.ok())
      for (const CacheRecord& record : *records) ids.push_back(record.result_id);
    return ids;
  }
  void Release(const std::string& id) {
    const absl::Status s = index().Release(id);
    EXPECT_TRUE(s.ok()) << s;
  }
  CacheIndex& index() { return index_->index(); }

  std::unique_ptr<CacheIndexUnderTest> index_;
};

TEST_P(CacheIndexTest, RootKeysAreBuildKits) {
  // BuildKit solver.md, cache keys: sha256 of "<digest>@<output>".
  EXPECT_EQ(CacheIndex::RootKey({"sha256:abc", 3}), Digest::Of("sha256:abc@3"));
  EXPECT_EQ(CacheIndex::ContentKey("sha256:abc"), Digest::Of("sha256:abc@-1"));
}

TEST_P(CacheIndexTest, DerivedKeysDifferInEveryPart) {
  const KeyId a = Digest::Of("a"), b = Digest::Of("b");
  const std::vector<InputKey> ab = {{a, ""}, {b, ""}}, ba = {{b, ""}, {a, ""}};
  const std::vector<InputKey> selected = {{a, "s"}, {b, ""}}, other = {{a, ""}, {b, "s"}};
  const std::vector<KeyId> keys = {
      CacheIndex::DerivedKey(kFoo, ab),       CacheIndex::DerivedKey(kFoo, ba),
      CacheIndex::DerivedKey(kBar, ab),       CacheIndex::DerivedKey({"sha256:foo", 1}, ab),
      CacheIndex::DerivedKey(kFoo, selected), CacheIndex::DerivedKey(kFoo, other),
      CacheIndex::DerivedKey(kFoo, {}),       CacheIndex::RootKey(kFoo)};
  for (size_t i = 0; i < keys.size(); ++i)
    for (size_t j = i + 1; j < keys.size(); ++j) EXPECT_NE(keys[i], keys[j]) << i << " " << j;
}

TEST_P(CacheIndexTest, RootIsFoundOnceSaved) {
  const KeyId foo = CacheIndex::RootKey(kFoo);
  EXPECT_FALSE(*index().HasRoot(foo));
  EXPECT_THAT(ResultsOf(foo), IsEmpty());
  EXPECT_EQ(Save(kFoo, {}, Record("r0")), foo);
  EXPECT_TRUE(*index().HasRoot(foo));
  EXPECT_THAT(ResultsOf(foo), ElementsAre("r0"));
  EXPECT_FALSE(*index().HasRoot(CacheIndex::RootKey({"sha256:foo", 1})));
}

TEST_P(CacheIndexTest, ATargetIsFoundByOpOutputInputAndSelector) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId bar = Save(kBar, {{{foo, "sel"}}}, Record("r1"));
  EXPECT_THAT(Query({{foo, "sel"}}, kBar), ElementsAre(bar));
  EXPECT_THAT(Query({{foo, ""}}, kBar), IsEmpty());
  EXPECT_THAT(Query({{foo, "se"}}, kBar), IsEmpty());
  EXPECT_THAT(Query({{foo, "sel"}}, kBaz), IsEmpty());
  EXPECT_THAT(Query({{foo, "sel"}}, {"sha256:bar", 1}), IsEmpty());
  EXPECT_THAT(Query({{foo, "sel"}}, kBar, 1), IsEmpty());
  EXPECT_THAT(Query({{bar, "sel"}}, kBar), IsEmpty());
  EXPECT_THAT(Query({}, kBar), IsEmpty());
  EXPECT_THAT(ResultsOf(bar), ElementsAre("r1"));
}

TEST_P(CacheIndexTest, EveryKeyOfAnInputLeadsToTheTarget) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId content = CacheIndex::ContentKey("sha256:content");
  const KeyId bar = Save(kBar, {{{foo, "sel"}, {content, ""}}}, Record("r1"));
  EXPECT_THAT(Query({{content, ""}}, kBar), ElementsAre(bar));
  EXPECT_THAT(Query({{foo, "sel"}}, kBar), ElementsAre(bar));
  EXPECT_THAT(Query({{foo, ""}}, kBar), IsEmpty());
}

TEST_P(CacheIndexTest, Llb6_36_AContentHitTeachesTheDefinitionKey) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId content = CacheIndex::ContentKey("sha256:content");
  const KeyId bar = Save(kBar, {{{foo, ""}, {content, ""}}}, Record("r1"));
  // The same content from another definition.
  const KeyId other = Save({"sha256:foo2", 0}, {}, Record("r2"));
  EXPECT_THAT(Query({{other, ""}}, kBar), IsEmpty());
  EXPECT_THAT(Query({{other, ""}, {content, ""}}, kBar), ElementsAre(bar));
  // From now on without the content.
  EXPECT_THAT(Query({{other, ""}}, kBar), ElementsAre(bar));
}

TEST_P(CacheIndexTest, Llb6_36_TheSameThroughMatch) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId base = Save(kBaz, {}, Record("rb"));
  const KeyId content = CacheIndex::ContentKey("sha256:content");
  const KeyId bar = Save(kBar, {{{base, ""}}, {{foo, "s"}, {content, ""}}}, Record("r1"));
  const KeyId other = Save({"sha256:foo2", 0}, {}, Record("r2"));
  EXPECT_THAT(Match({{{base, ""}}, {{other, "s"}}}, kBar), IsEmpty());
  EXPECT_THAT(Match({{{base, ""}}, {{other, "s"}, {content, ""}}}, kBar), ElementsAre(bar));
  EXPECT_THAT(Match({{{base, ""}}, {{other, "s"}}}, kBar), ElementsAre(bar));
  EXPECT_THAT(Match({{{base, ""}}, {{other, ""}}}, kBar), IsEmpty());
}

TEST_P(CacheIndexTest, Llb6_37_CarryOverFromASublink) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId content = CacheIndex::ContentKey("sha256:content0");
  const KeyId target = Save(kBaz, {{{foo, "sel0"}, {content, ""}}}, Record("r1"));
  const KeyId bar = Save(kBar, {}, Record("r2"));
  EXPECT_THAT(Query({{bar, "sel0"}, {content, ""}}, kBaz), ElementsAre(target));
  EXPECT_THAT(Query({{bar, "sel0"}}, kBaz), ElementsAre(target));
  EXPECT_THAT(Query({{bar, ""}}, kBaz), IsEmpty());
}

TEST_P(CacheIndexTest, Llb6_43_NewestRecordFirstThenTheRemoteOne) {
  const KeyId foo = Save(kFoo, {}, Record("older", 100));
  Save(kFoo, {}, Record("newest", 300));
  Save(kFoo, {}, Record("local", 200, 0));
  Save(kFoo, {}, Record("remote", 200, 1));
  EXPECT_THAT(ResultsOf(foo), ElementsAre("newest", "remote", "local", "older"));
  // Times far apart, before the epoch and below a second keep their order.
  Save(kFoo, {}, {"ancient", absl::FromUnixNanos(-5), 0});
  Save(kFoo, {}, {"tick", absl::FromUnixSeconds(300) + absl::Nanoseconds(1), 0});
  EXPECT_THAT(ResultsOf(foo), ElementsAre("tick", "newest", "remote", "local", "older", "ancient"));
}

TEST_P(CacheIndexTest, AResultSavedAgainIsOneRecordWithTheLaterTime) {
  const KeyId foo = Save(kFoo, {}, Record("a", 100));
  Save(kFoo, {}, Record("b", 200));
  Save(kFoo, {}, Record("a", 300));
  EXPECT_THAT(ResultsOf(foo), ElementsAre("a", "b"));
  Save(kFoo, {}, Record("a", 50));
  EXPECT_THAT(ResultsOf(foo), ElementsAre("a", "b"));
  EXPECT_EQ((*index().Records(foo))[0].created_at, absl::FromUnixSeconds(300));
  Release("a");
  EXPECT_THAT(ResultsOf(foo), ElementsAre("b"));
  Release("b");
  EXPECT_FALSE(*index().HasRoot(foo));
}

TEST_P(CacheIndexTest, Llb6_44_AChainStaysTraversableUntilItsEndGoes) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId bar = Save(kBar, {{{foo, ""}}}, Record("r1"));
  Release("r0");
  EXPECT_TRUE(*index().HasRoot(foo));
  EXPECT_THAT(ResultsOf(foo), IsEmpty());
  EXPECT_THAT(Query({{foo, ""}}, kBar), ElementsAre(bar));
  EXPECT_THAT(ResultsOf(bar), ElementsAre("r1"));
  Release("r1");
  EXPECT_FALSE(*index().HasRoot(foo));
  EXPECT_THAT(Query({{foo, ""}}, kBar), IsEmpty());
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, ReleaseClimbsOnlyAsFarAsNothingElseNeedsIt) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId content = CacheIndex::ContentKey("sha256:c");
  const KeyId bar = Save(kBar, {{{foo, "s"}, {content, ""}}}, Record("r1"));
  const KeyId baz = Save(kBaz, {{{bar, ""}}}, Record("r2"));
  Save({"sha256:other", 0}, {{{foo, ""}}}, Record("r3"));
  Release("r0");
  Release("r1");
  EXPECT_THAT(Query({{bar, ""}}, kBaz), ElementsAre(baz));
  Release("r2");  // baz, bar and the content key go; foo still leads to r3
  EXPECT_THAT(Query({{content, ""}}, kBar), IsEmpty());
  EXPECT_THAT(Query({{foo, "s"}}, kBar), IsEmpty());
  EXPECT_TRUE(*index().HasRoot(foo));
  EXPECT_FALSE(*index().HasRoot(content));
  Release("r3");
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, Llb6_45_ResultsWhoseRefVanishedAreDropped) {
  const KeyId foo = Save(kFoo, {}, Record("w::gone"));
  const KeyId bar = Save(kBar, {{{foo, ""}}}, Record("w::kept"));
  index_->Reopen();
  // The owner of refs walks the ids in pages and hands back the dead ones.
  auto page = index().Results("", 1);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(*page, ElementsAre("w::gone"));
  EXPECT_THAT(*index().Results("w::gone", 10), ElementsAre("w::kept"));
  EXPECT_THAT(*index().Results("w::kept", 10), IsEmpty());
  const std::string dead[] = {"w::gone", "w::never existed"};
  ASSERT_TRUE(index().ReleaseAll(dead).ok());
  EXPECT_THAT(ResultsOf(foo), IsEmpty());
  EXPECT_THAT(*index().Results("", 10), ElementsAre("w::kept"));
  EXPECT_THAT(Query({{foo, ""}}, kBar), ElementsAre(bar));
  EXPECT_THAT(ResultsOf(bar), ElementsAre("w::kept"));
}

TEST_P(CacheIndexTest, EverythingSurvivesAReopen) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId bar = Save(kBar, {{{foo, "s"}}}, Record("r1", 7, 1));
  if (!index_->Reopen()) return;  // keeps nothing, by design
  EXPECT_TRUE(*index().HasRoot(foo));
  EXPECT_THAT(Query({{foo, "s"}}, kBar), ElementsAre(bar));
  EXPECT_THAT(*index().Records(bar), ElementsAre(Record("r1", 7, 1)));
}

TEST_P(CacheIndexTest, OneResultUnderSeveralKeys) {
  const KeyId foo = Save(kFoo, {}, Record("same"));
  const KeyId bar = Save(kBar, {}, Record("same"));
  EXPECT_THAT(ResultsOf(foo), ElementsAre("same"));
  EXPECT_THAT(ResultsOf(bar), ElementsAre("same"));
  EXPECT_THAT(*index().Results("", 10), ElementsAre("same"));
  Release("same");
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, ResultIdsThatBeginAlikeAreApart) {
  const KeyId foo = Save(kFoo, {}, Record("w::1"));
  const KeyId bar = Save(kBar, {}, Record("w::12"));
  const KeyId baz = Save(kBaz, {}, Record(""));
  Release("w::1");
  EXPECT_FALSE(*index().HasRoot(foo));
  EXPECT_THAT(ResultsOf(bar), ElementsAre("w::12"));
  Release("");
  EXPECT_FALSE(*index().HasRoot(baz));
  EXPECT_TRUE(*index().HasRoot(bar));
}

TEST_P(CacheIndexTest, AllInputsMustAgree) {
  const KeyId a = Save(kFoo, {}, Record("a")), b = Save(kBar, {}, Record("b"));
  const KeyId c = Save(kBaz, {}, Record("c"));
  const OpOutput op = {"sha256:join", 0};
  const KeyId ab = Save(op, {{{a, ""}}, {{b, ""}}}, Record("ab"));
  const KeyId ac = Save(op, {{{a, ""}}, {{c, ""}}}, Record("ac"));
  const KeyId bc = Save(op, {{{b, ""}}, {{c, ""}}}, Record("bc"));
  EXPECT_NE(ab, ac);
  EXPECT_THAT(Match({{{a, ""}}, {{b, ""}}}, op), ElementsAre(ab));
  EXPECT_THAT(Match({{{a, ""}}, {{c, ""}}}, op), ElementsAre(ac));
  EXPECT_THAT(Match({{{b, ""}}, {{b, ""}}}, op), IsEmpty());
  EXPECT_THAT(Match({{{b, ""}}, {{a, ""}}}, op), IsEmpty());
  EXPECT_THAT(Query({{a, ""}}, op), UnorderedElementsAre(ab, ac));
  EXPECT_THAT(Query({{c, ""}}, op, 1), UnorderedElementsAre(ac, bc));
  EXPECT_THAT(Match({{{a, ""}, {b, ""}}, {{c, ""}}}, op), UnorderedElementsAre(ac, bc));
}

TEST_P(CacheIndexTest, SaveTakesTheNodeThatEveryInputLeadsTo) {
  const KeyId a = Save(kFoo, {}, Record("a")), b = Save(kBar, {}, Record("b"));
  const KeyId content_a = CacheIndex::ContentKey("sha256:ca");
  const KeyId content_b = CacheIndex::ContentKey("sha256:cb");
  const OpOutput op = {"sha256:join", 0};
  const KeyId first =
      Save(op, {{{a, ""}, {content_a, ""}}, {{b, ""}, {content_b, ""}}}, Record("r1", 100));
  // Other definitions of both inputs; the contents meet in the old node.
  const KeyId a2 = Save({"sha256:a2", 0}, {}, Record("a2"));
  const KeyId b2 = Save({"sha256:b2", 0}, {}, Record("b2"));
  const KeyId second =
      Save(op, {{{a2, ""}, {content_a, ""}}, {{b2, ""}, {content_b, ""}}}, Record("r2", 200));
  EXPECT_EQ(first, second);
  EXPECT_THAT(ResultsOf(first), ElementsAre("r2", "r1"));
  EXPECT_THAT(Match({{{a2, ""}}, {{b, ""}}}, op), ElementsAre(first));
  // Only one input is known: a node of its own.
  const KeyId b3 = Save({"sha256:b3", 0}, {}, Record("b3"));
  EXPECT_NE(Save(op, {{{a, ""}}, {{b3, ""}}}, Record("r3")), first);
}

TEST_P(CacheIndexTest, EqualSetsOfKeysGiveEqualIds) {
  const KeyId a = Digest::Of("a"), b = Digest::Of("b");
  const KeyId one = Save(kFoo, {{{a, "x"}, {b, ""}}}, Record("r"));
  Release("r");
  EXPECT_EQ(index_->RowCount(), 0u);
  EXPECT_EQ(Save(kFoo, {{{b, ""}, {a, "x"}, {b, ""}}}, Record("r")), one);
}

TEST_P(CacheIndexTest, AnAliasIsAsGoodAsTheNode) {
  KeyId a = Digest::Of("a"), b = Digest::Of("b");
  if (b < a) std::swap(a, b);
  const KeyId node = Save(kFoo, {{{b, ""}}}, Record("r1"));
  // The second combination computes another id, and meets the first node over b.
  ASSERT_EQ(Save(kFoo, {{{a, ""}, {b, ""}}}, Record("r1")), node);
  const InputKey smaller[] = {{a, ""}};
  const KeyId alias = CacheIndex::DerivedKey(kFoo, smaller);
  ASSERT_NE(alias, node);
  EXPECT_TRUE(*index().HasRoot(alias));
  EXPECT_THAT(ResultsOf(alias), ElementsAre("r1"));
  const KeyId bar = Save(kBar, {{{alias, ""}}}, Record("r2"));
  EXPECT_THAT(Query({{node, ""}}, kBar), ElementsAre(bar));
  EXPECT_THAT(Query({{alias, ""}}, kBar), ElementsAre(bar));
  Release("r1");
  Release("r2");
  EXPECT_FALSE(*index().HasRoot(alias));
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, LinkTeachesAndNeverRevives) {
  const KeyId a = Digest::Of("a"), b = Digest::Of("b");
  const KeyId node = Save(kFoo, {{{a, ""}}}, Record("r1"));
  const Inputs by_b = {{{b, "s"}}};
  ASSERT_TRUE(index().Link(kFoo, by_b, node).ok());
  ASSERT_TRUE(index().Link(kFoo, by_b, node).ok());
  EXPECT_THAT(Query({{b, "s"}}, kFoo), ElementsAre(node));
  Release("r1");
  EXPECT_EQ(index_->RowCount(), 0u);
  ASSERT_TRUE(index().Link(kFoo, by_b, node).ok());
  EXPECT_THAT(Query({{b, "s"}}, kFoo), IsEmpty());
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, AnInputWithoutKeysIsRefused) {
  const Inputs inputs = {{{Digest::Of("a"), ""}}, {}};
  const auto saved = index().Save(kFoo, inputs, Record("r"));
  EXPECT_EQ(saved.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(saved.status().message()), testing::HasSubstr("input 1 of sha256:foo"));
  EXPECT_EQ(index().Match(inputs, kFoo).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index().Link(kFoo, inputs, Digest::Of("t")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, ACommonKeyCarriesNothingOver) {
  const KeyId base = CacheIndex::RootKey(kFoo);
  const int many = static_cast<int>(CacheIndex::kMaxCarryOver) + 1;
  std::vector<KeyId> targets;
  for (int i = 0; i < many; ++i) {
    const KeyId other = Digest::Of(absl::StrCat("context ", i));
    targets.push_back(Save(kBar, {{{base, ""}}, {{other, ""}}}, Record(absl::StrCat("r", i))));
  }
  const KeyId content = CacheIndex::ContentKey("sha256:c");
  EXPECT_THAT(Query({{base, ""}, {content, ""}}, kBar), SizeIs(many));
  EXPECT_THAT(Query({{content, ""}}, kBar), IsEmpty());
  // What matches in every input is carried over all the same.
  const Inputs inputs = {{{base, ""}, {content, ""}}, {{Digest::Of("context 7"), ""}}};
  EXPECT_THAT(Match(inputs, kBar), ElementsAre(targets[7]));
  EXPECT_THAT(Query({{content, ""}}, kBar), ElementsAre(targets[7]));
}

TEST_P(CacheIndexTest, ManyInputs) {
  Inputs inputs;
  for (int i = 0; i < 300; ++i)
    inputs.push_back({{Digest::Of(absl::StrCat("d", i)), "s"},
                      {CacheIndex::ContentKey(absl::StrCat("c", i)), ""}});
  const KeyId node = Save(kFoo, inputs, Record("r"));
  Inputs by_content = inputs;
  for (size_t i = 0; i < inputs.size(); ++i)
    by_content[i].erase(by_content[i].begin() + static_cast<long>(i % 2));
  EXPECT_THAT(Match(by_content, kFoo), ElementsAre(node));
  by_content[299] = {{Digest::Of("nobody"), ""}};
  EXPECT_THAT(Match(by_content, kFoo), IsEmpty());
  Release("r");
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, ADeepChainIsReleasedWithoutRecursion) {
  KeyId key = Save(kFoo, {}, Record("r"));
  const int depth = 20000;
  for (int i = 0; i < depth; ++i) {
    key = Save(kBar, {{{key, ""}}}, Record(i + 1 == depth ? "last" : "r"));
  }
  Release("r");
  EXPECT_TRUE(*index().HasRoot(CacheIndex::RootKey(kFoo)));
  Release("last");
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, CommittedRecordsAreListedSince) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId bar = Save(kBar, {{{foo, ""}}}, Record("r1"));
  auto all = index().CommittedSince(0, 10);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_THAT(*all, SizeIs(2));
  EXPECT_EQ((*all)[0].key, foo);
  EXPECT_EQ((*all)[0].result_id, "r0");
  EXPECT_EQ((*all)[1].key, bar);
  auto rest = index().CommittedSince((*all)[0].sequence, 10);
  ASSERT_THAT(*rest, SizeIs(1));
  EXPECT_EQ((*rest)[0].result_id, "r1");
  EXPECT_THAT(*index().CommittedSince((*all)[1].sequence, 10), IsEmpty());
}

TEST_P(CacheIndexTest, MergeCarriesAGraphOver) {
  const KeyId foo = Save(kFoo, {}, Record("r0"));
  const KeyId content = CacheIndex::ContentKey("sha256:c");
  const KeyId bar = Save(kBar, {{{foo, "s"}, {content, ""}}}, Record("r1"));
  const KeyId baz = Save(kBaz, {{{bar, ""}}, {{foo, ""}}}, Record("r2"));

  // Children first, parents first, and all of it twice: the same graph.
  for (const bool reverse : {false, true}) {
    auto other = GetParam().make();
    std::vector<KeyId> order = {foo, bar, baz};
    if (reverse) std::reverse(order.begin(), order.end());
    for (int twice = 0; twice < 2; ++twice)
      for (const KeyId& id : order) {
        auto node = index().Export(id);
        ASSERT_TRUE(node.ok()) << node.status();
        auto merged = other->index().Merge(*node);
        ASSERT_TRUE(merged.ok()) << merged.status();
        EXPECT_EQ(*merged, id);
      }
    EXPECT_EQ(other->RowCount(), index_->RowCount());
    const InputKey by_content[] = {{content, ""}};
    EXPECT_THAT(*other->index().Query(by_content, 0, kBar), ElementsAre(bar));
    const Inputs inputs = {{{bar, ""}}, {{foo, ""}}};
    EXPECT_THAT(*other->index().Match(inputs, kBaz), ElementsAre(baz));
    EXPECT_THAT(*other->index().Records(baz), ElementsAre(Record("r2")));
    const std::string all[] = {"r0", "r1", "r2"};
    ASSERT_TRUE(other->index().ReleaseAll(all).ok());
    EXPECT_EQ(other->RowCount(), 0u);
  }
}

TEST_P(CacheIndexTest, MergeMeetsAnEqualNodeAndTheFirstResultWins) {
  const KeyId content = CacheIndex::ContentKey("sha256:c");
  auto other = GetParam().make();
  const Inputs here = {{{Digest::Of("x"), ""}, {content, ""}}};
  const Inputs there = {{{Digest::Of("y"), ""}, {content, ""}}};
  const KeyId ours = Save(kBar, here, Record("ours", 100));
  const KeyId theirs = *other->index().Save(kBar, there, Record("theirs", 200));
  const Inputs after = {{{theirs, ""}}};
  const KeyId last = *other->index().Save(kBaz, after, Record("last"));
  EXPECT_EQ(*index().Merge(*other->index().Export(theirs)), ours);
  EXPECT_EQ(*index().Merge(*other->index().Export(last)), last);
  EXPECT_THAT(ResultsOf(ours), ElementsAre("ours"));
  EXPECT_THAT(ResultsOf(theirs), ElementsAre("ours"));
  EXPECT_THAT(Query({{Digest::Of("y"), ""}}, kBar), ElementsAre(ours));
  EXPECT_THAT(Query({{ours, ""}}, kBaz), ElementsAre(last));
  const std::string all[] = {"ours", "last"};
  ASSERT_TRUE(index().ReleaseAll(all).ok());
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, MergeAfterItsConsumerKeepsTheChain) {
  const KeyId content = CacheIndex::ContentKey("sha256:c");
  auto other = GetParam().make();
  const Inputs there = {{{Digest::Of("y"), ""}, {content, ""}}};
  const KeyId theirs = *other->index().Save(kBar, there, Record("theirs"));
  const Inputs after = {{{theirs, "s"}}};
  const KeyId last = *other->index().Save(kBaz, after, Record("last"));
  Save(kBar, {{{Digest::Of("x"), ""}, {content, ""}}}, Record("ours"));
  ASSERT_EQ(*index().Merge(*other->index().Export(last)), last);
  ASSERT_TRUE(index().Merge(*other->index().Export(theirs)).ok());
  // From y to the end, whichever node stands between.
  std::vector<InputKey> between;
  for (const KeyId& key : Query({{Digest::Of("y"), ""}}, kBar)) between.push_back({key, "s"});
  EXPECT_THAT(Query(between, kBaz), ElementsAre(last));
}

TEST_P(CacheIndexTest, MergeRefusesGaps) {
  PortableNode node;
  node.id = Digest::Of("n");
  node.op = kBar;
  node.records = {Record("r")};
  node.links = {{CacheIndex::RootKey(kBar), 1, {Digest::Of("x"), ""}}};
  EXPECT_EQ(index().Merge(node).status().code(), absl::StatusCode::kInvalidArgument);
  node.links = {{CacheIndex::RootKey(kBar), -1, {Digest::Of("x"), ""}}};
  EXPECT_EQ(index().Merge(node).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index().Export(Digest::Of("n")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(index_->RowCount(), 0u);
}

TEST_P(CacheIndexTest, DurationsAreRemembered) {
  EXPECT_EQ(index().MeanDuration("sha256:foo"), absl::ZeroDuration());
  index().RecordDuration("sha256:foo", absl::Seconds(4));
  EXPECT_EQ(index().MeanDuration("sha256:foo"), absl::Seconds(4));
  index().RecordDuration("sha256:foo", absl::Seconds(8));
  EXPECT_GT(index().MeanDuration("sha256:foo"), absl::Seconds(4));
  EXPECT_LT(index().MeanDuration("sha256:foo"), absl::Seconds(8));
  EXPECT_EQ(index().MeanDuration("sha256:bar"), absl::ZeroDuration());
}

INSTANTIATE_TEST_SUITE_P(Every, CacheIndexTest, testing::ValuesIn(CacheIndexFactories()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace kiln::store
