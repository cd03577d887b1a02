#include "daemon/remotecache/imported_graph.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/remotecache/imported_key_id.h"
#include "gtest/gtest.h"

namespace kiln::daemon {
namespace {

using store::CacheIndex;

Digest Record(const char* op) { return CacheIndex::RootKey({Digest::Of(op).ToString(), 0}); }
store::OpOutput Op(const char* op) { return {Digest::Of(op).ToString(), 0}; }

store::LayerBlob Blob(const std::string& name) {
  store::LayerBlob blob;
  blob.descriptor.digest = Digest::Of(name);
  blob.diff_id = Digest::Of("diff " + name);
  return blob;
}

// base -> step (layers a, b) -> top (layers a, b, c)
ImportedConfig Chain() {
  ImportedConfig out;
  out.config.layers = {
      {Digest::Of("a"), -1, {}}, {Digest::Of("b"), 0, {}}, {Digest::Of("c"), 1, {}}};
  for (const char* name : {"a", "b", "c"}) out.blobs[Digest::Of(name)] = Blob(name);
  CacheConfig::Record base, step, top;
  base.digest = Record("base");
  step.digest = Record("step");
  step.inputs = {{{"", 0}}};
  step.results = {{1, absl::FromUnixSeconds(1)}};
  top.digest = Record("top");
  top.inputs = {{{"sel", 1}}};
  top.results = {{2, absl::FromUnixSeconds(2)}};
  out.config.records = {base, step, top};
  return out;
}

TEST(ImportedGraph, LeadsFromRootsToResults) {
  const ImportedConfig config = Chain();
  const ImportedGraph graph({&config, 1});
  const auto steps = graph.Query(std::vector<store::InputKey>{{Record("base"), ""}}, 0, Op("step"));
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_TRUE(IsImportedKey(steps[0]));
  EXPECT_FALSE(IsImportedKey(Record("base")));
  const std::vector<store::InputKey> step = {{steps[0], "sel"}};
  EXPECT_TRUE(graph.Query(step, 1, Op("top")).empty());
  EXPECT_TRUE(graph.Query(step, 0, Op("else")).empty());
  EXPECT_TRUE(graph.Query(std::vector<store::InputKey>{{steps[0], ""}}, 0, Op("top")).empty());
  const auto tops = graph.Query(step, 0, Op("top"));
  ASSERT_EQ(tops.size(), 1u);
  const auto records = graph.Records(tops[0]);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].priority, 1);
  const ImportedGraph::Result* result = graph.Find(records[0].result_id);
  ASSERT_NE(result, nullptr);
  EXPECT_EQ(result->layers.size(), 3u);
  EXPECT_EQ(result->layers[0].diff_id, Digest::Of("diff a"));
  EXPECT_EQ(graph.Find("import:zz"), nullptr);
  EXPECT_EQ(graph.Find("kiln::x"), nullptr);
}

// Scenario C13, the last: a layer that is not there makes its results unusable, not its keys.
TEST(ImportedGraph, C13_MissingLayerLeavesAStep) {
  ImportedConfig config = Chain();
  config.blobs.erase(Digest::Of("c"));
  const ImportedGraph graph({&config, 1});
  EXPECT_EQ(graph.key_count(), 2u);
  const auto steps = graph.Query(std::vector<store::InputKey>{{Record("base"), ""}}, 0, Op("step"));
  const auto tops = graph.Query(std::vector<store::InputKey>{{steps[0], "sel"}}, 0, Op("top"));
  ASSERT_EQ(tops.size(), 1u);
  EXPECT_TRUE(graph.Records(tops[0]).empty());
  EXPECT_EQ(graph.Records(steps[0]).size(), 1u);
}

// The same statement from two caches is one key, whatever else they know.
TEST(ImportedGraph, KeysNameOperationAndContent) {
  const ImportedConfig one = Chain();
  ImportedConfig two = Chain();
  two.config.records[1].inputs[0].push_back({"", 3});
  CacheConfig::Record other;
  other.digest = Record("another base");
  two.config.records.push_back(other);
  const std::vector<store::InputKey> base = {{Record("base"), ""}};
  const ImportedGraph first({&one, 1}), second({&two, 1});
  EXPECT_EQ(first.Query(base, 0, Op("step")), second.Query(base, 0, Op("step")));
  const std::vector<ImportedConfig> both = {one, two};
  EXPECT_EQ(ImportedGraph(both).key_count(), 2u);
}

// One operation and content reached in unlike ways: one way must not stand in for the other.
TEST(ImportedGraph, UnlikeWaysStayApart) {
  ImportedConfig config = Chain();
  CacheConfig::Record x, y, merge1, merge2;
  x.digest = Record("x");
  y.digest = Record("y");
  merge1.digest = merge2.digest = Record("merge");
  merge1.inputs = {{{"", 0}}, {{"", 3}}};
  merge2.inputs = {{{"", 3}}, {{"", 4}}};
  merge1.results = merge2.results = {{1, absl::FromUnixSeconds(1)}};
  config.config.records.push_back(x);
  config.config.records.push_back(y);
  config.config.records.push_back(merge1);
  config.config.records.push_back(merge2);
  const ImportedGraph graph({&config, 1});
  const auto by = [&](const char* key, int input) {
    return graph.Query(std::vector<store::InputKey>{{Record(key), ""}}, input, Op("merge"));
  };
  ASSERT_EQ(by("base", 0).size(), 1u);
  EXPECT_NE(by("base", 0), by("x", 0));
  EXPECT_EQ(by("base", 0), by("x", 1));
  EXPECT_EQ(by("x", 0), by("y", 1));
}

TEST(ImportedGraph, NewestResultOfARecord) {
  ImportedConfig config = Chain();
  config.config.records[1].results.push_back({0, absl::FromUnixSeconds(9)});
  const ImportedGraph graph({&config, 1});
  const auto steps = graph.Query(std::vector<store::InputKey>{{Record("base"), ""}}, 0, Op("step"));
  const auto records = graph.Records(steps.at(0));
  EXPECT_EQ(records.at(0).created_at, absl::FromUnixSeconds(9));
  EXPECT_EQ(graph.Find(records[0].result_id)->layers.size(), 1u);
}

}  // namespace
}  // namespace kiln::daemon
