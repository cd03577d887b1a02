#include "daemon/remotecache/key_walk.h"

#include <string>

#include "gtest/gtest.h"
#include "store/memory_cache_index.h"

namespace kiln::daemon {
namespace {

using solver::SolvedGraph;
using store::CacheIndex;
using store::InputKey;

std::string Op(const char* name) { return Digest::Of(name).ToString(); }

// Key sets of one input each.
std::vector<std::vector<InputKey>> One(std::vector<InputKey> keys) { return {std::move(keys)}; }

SolvedGraph::Edge EdgeWith(std::vector<store::KeyId> keys, std::vector<std::string> ops) {
  SolvedGraph::Edge edge;
  edge.info = std::make_shared<solver::VertexInfo>();
  edge.keys = std::move(keys);
  edge.op_digests = std::move(ops);
  return edge;
}

class KeyWalkTest : public testing::Test {
 protected:
  store::MemoryCacheIndex index_;
  const store::CacheRecord record_{"kiln::r", absl::FromUnixSeconds(5), 0};
};

// llb.md 8, rule 2: a local source has no key that means anything elsewhere; its content has.
TEST_F(KeyWalkTest, RandomKeysStayHere) {
  const auto context = *index_.Save({"random:1", 0}, {}, record_);
  const auto content = CacheIndex::ContentKey(Op("content"));
  const auto by_both =
      *index_.Save({Op("copy"), 0}, One({{context, "sel"}, {content, ""}}), record_);
  const auto by_context = *index_.Save({Op("run"), 0}, One({{context, ""}}), record_);
  SolvedGraph graph;
  graph.edges = {EdgeWith({context}, {"random:1"}), EdgeWith({by_context}, {Op("run")}),
                 EdgeWith({by_both}, {Op("copy")})};
  const auto keys = WalkKeys({&graph, 1}, index_);
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 2u);
  EXPECT_EQ((*keys)[0].digest, content);
  EXPECT_TRUE((*keys)[0].inputs.empty());
  EXPECT_EQ((*keys)[1].digest, CacheIndex::RootKey({Op("copy"), 0}));
  ASSERT_EQ((*keys)[1].inputs[0].size(), 1u);
  EXPECT_EQ((*keys)[1].inputs[0][0].selector, "");
  EXPECT_TRUE((*keys)[1].of_root);
  EXPECT_EQ((*keys)[1].results.size(), 1u);
}

// Ways of earlier builds come along without their results.
TEST_F(KeyWalkTest, OtherWaysAreSteps) {
  const auto old_base = *index_.Save({Op("old"), 0}, {}, record_);
  const auto old_step = *index_.Save({Op("step"), 0}, One({{old_base, ""}}), record_);
  const auto base = *index_.Save({Op("new"), 0}, {}, record_);
  const auto top = *index_.Save({Op("top"), 0}, One({{old_step, ""}, {base, ""}}), record_);
  SolvedGraph graph;
  graph.edges = {EdgeWith({base}, {Op("new")}), EdgeWith({top}, {Op("top")})};
  const auto keys = WalkKeys({&graph, 1}, index_);
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 4u);
  size_t with_results = 0;
  for (const WalkedKey& key : *keys) with_results += key.results.empty() ? 0 : 1;
  EXPECT_EQ(with_results, 1u);
  EXPECT_EQ(keys->back().inputs[0].size(), 2u);
}

TEST_F(KeyWalkTest, ExportCacheOffLeavesTheResultOut) {
  const auto base = *index_.Save({Op("base"), 0}, {}, record_);
  const auto top = *index_.Save({Op("top"), 0}, One({{base, ""}}), record_);
  SolvedGraph graph;
  graph.edges = {EdgeWith({base}, {Op("base")}), EdgeWith({top}, {Op("top")})};
  auto info = std::make_shared<solver::VertexInfo>();
  info->export_cache = false;
  graph.edges.back().info = info;
  const auto keys = WalkKeys({&graph, 1}, index_);
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 2u);
  EXPECT_TRUE(keys->back().results.empty());
}

// Two nodes of one operation with a way in common are one record.
TEST_F(KeyWalkTest, EqualKeysAreMerged) {
  const auto base = *index_.Save({Op("base"), 0}, {}, record_);
  const auto other = *index_.Save({Op("other"), 0}, {}, record_);
  store::PortableNode twin;
  twin.id = Digest::Of("a");
  twin.op = {Op("step"), 0};
  twin.links = {{CacheIndex::RootKey(twin.op), 0, {base, ""}}};
  twin.records = {record_};
  const auto first = *index_.Save({Op("step"), 0}, One({{base, ""}, {other, ""}}), record_);
  const auto second = *index_.Merge(twin);
  SolvedGraph graph;
  graph.edges = {EdgeWith({base}, {Op("base")}), EdgeWith({first, second}, {Op("step")})};
  const auto keys = WalkKeys({&graph, 1}, index_);
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->size(), 3u);
}

// A hundred thousand keys in a row: no recursion.
TEST_F(KeyWalkTest, DeepChain) {
  store::KeyId at = *index_.Save({Op("base"), 0}, {}, record_);
  const int depth = 100000;
  for (int i = 0; i < depth; ++i)
    at = *index_.Save({Digest::Of(std::to_string(i)).ToString(), 0}, One({{at, ""}}), record_);
  SolvedGraph graph;
  graph.edges = {EdgeWith({at}, {Op("x")})};
  const auto keys = WalkKeys({&graph, 1}, index_);
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->size(), static_cast<size_t>(depth) + 1);
}

}  // namespace
}  // namespace kiln::daemon
