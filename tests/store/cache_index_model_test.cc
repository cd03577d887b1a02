// Random work on every index at once: they must give the same answers, and nothing may be left
// when everything was released.
#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/store/cache_index_factory.h"

namespace kiln::store {
namespace {

class CacheIndexModelTest : public testing::TestWithParam<int> {
 protected:
  static constexpr int kOps = 4, kResults = 12, kMaxInputs = 3;

  void SetUp() override {
    for (const CacheIndexFactory& factory : CacheIndexFactories())
      indexes_.push_back(factory.make());
    for (int i = 0; i < kOps; ++i) keys_.push_back(CacheIndex::RootKey(Op(i)));
    for (int i = 0; i < 4; ++i) keys_.push_back(CacheIndex::ContentKey(absl::StrCat("c", i)));
  }

  static OpOutput Op(int i) { return {absl::StrCat("sha256:", i / 2), i % 2}; }
  int Below(int end) { return static_cast<int>(random_() % static_cast<unsigned>(end)); }
  InputKey AnyKey() { return {keys_[Below(static_cast<int>(keys_.size()))], Below(3) ? "" : "s"}; }
  std::vector<InputKey> AnyKeys() {
    std::vector<InputKey> keys;
    for (int i = 1 + Below(3); i > 0; --i) keys.push_back(AnyKey());
    return keys;
  }
  std::vector<std::vector<InputKey>> AnyInputs(int least) {
    std::vector<std::vector<InputKey>> inputs;
    for (int i = least + Below(kMaxInputs); i > 0; --i) inputs.push_back(AnyKeys());
    return inputs;
  }
  CacheRecord AnyRecord() {
    return {absl::StrCat("w::", Below(kResults)), absl::FromUnixSeconds(Below(5)),
            static_cast<uint8_t>(Below(2))};
  }

  // The one answer of all of them.
  template <typename Call>
  auto All(const Call& call) -> std::decay_t<decltype(*call(std::declval<CacheIndex&>()))> {
    auto first = call(indexes_[0]->index());
    for (size_t i = 1; i < indexes_.size(); ++i) {
      auto other = call(indexes_[i]->index());
      EXPECT_EQ(first.status(), other.status());
      if (first.ok() && other.ok()) {
        EXPECT_TRUE(*first == *other);
      }
    }
    // A node that is its own input, as only random work makes it, cannot be carried over.
    if (!first.ok()) {
      EXPECT_EQ(first.status().code(), absl::StatusCode::kInvalidArgument);
      return {};
    }
    return *std::move(first);
  }

  void Step() {
    const OpOutput op = Op(Below(kOps));
    switch (Below(12)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const auto inputs = AnyInputs(0);
        const CacheRecord record = AnyRecord();
        const KeyId key = All([&](CacheIndex& index) { return index.Save(op, inputs, record); });
        if (keys_.size() < 60) keys_.push_back(key);
        break;
      }
      case 4:
      case 5: {
        const auto keys = AnyKeys();
        const int input = Below(kMaxInputs);
        All([&](CacheIndex& index) { return index.Query(keys, input, op); });
        break;
      }
      case 6:
      case 7: {
        const auto inputs = AnyInputs(1);
        All([&](CacheIndex& index) { return index.Match(inputs, op); });
        break;
      }
      case 8: {
        const auto inputs = AnyInputs(1);
        const KeyId target = AnyKey().key;
        for (auto& index : indexes_) EXPECT_TRUE(index->index().Link(op, inputs, target).ok());
        break;
      }
      case 9: {
        const std::string dead[] = {AnyRecord().result_id, AnyRecord().result_id};
        for (auto& index : indexes_) EXPECT_TRUE(index->index().ReleaseAll(dead).ok());
        break;
      }
      case 10: {
        const KeyId key = AnyKey().key;
        All([&](CacheIndex& index) { return index.HasRoot(key); });
        All([&](CacheIndex& index) { return index.Records(key); });
        break;
      }
      default: {
        // A node of one comes back to all, changed a little.
        auto node = indexes_[0]->index().Export(AnyKey().key);
        if (!node.ok()) break;
        if (Below(2)) node->id = Digest::Of(absl::StrCat("elsewhere ", Below(5)));
        if (!node->links.empty() && Below(2)) node->links[0].from = AnyKey();
        All([&](CacheIndex& index) { return index.Merge(*node); });
      }
    }
  }

  std::mt19937 random_{static_cast<unsigned>(GetParam())};
  std::vector<std::unique_ptr<CacheIndexUnderTest>> indexes_;
  std::vector<KeyId> keys_;
};

TEST_P(CacheIndexModelTest, AllAgree) {
  for (int step = 0; step < 400 && !HasFailure(); ++step) {
    SCOPED_TRACE(absl::StrCat("seed ", GetParam(), " step ", step));
    Step();
  }
  for (const KeyId& key : keys_) {
    All([&](CacheIndex& index) { return index.Records(key); });
    const bool exists = All([&](CacheIndex& index) { return index.HasRoot(key); });
    if (exists)
      All([&](CacheIndex& index) -> absl::StatusOr<std::vector<PortableNode::Link>> {
        auto node = index.Export(key);
        if (!node.ok()) return node.status();
        return node->links;
      });
  }
  const auto ids = All([](CacheIndex& index) { return index.Results("", 1000); });
  for (auto& index : indexes_) {
    ASSERT_TRUE(index->index().ReleaseAll(ids).ok());
    // Random work makes rings, which hold themselves; real graphs have none.
    EXPECT_EQ(index->RowCount() == 0, indexes_[0]->RowCount() == 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CacheIndexModelTest, testing::Range(1, 31));

}  // namespace
}  // namespace kiln::store
