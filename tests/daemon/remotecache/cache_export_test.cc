#include "daemon/remotecache/cache_export.h"

#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/remotecache/cache_machine.h"

namespace kiln::daemon {
namespace {

constexpr char kGraph[] =
    "base:\n"
    "run: base\n"
    "context:\n"
    "copy: run context content=1 sel=1:/src\n";

class CacheExportTest : public testing::Test {
 protected:
  std::shared_ptr<TestImports> Import(const CacheExport& cache, const std::string& name = "cache") {
    return std::make_shared<TestImports>(name, &blobs_,
                                         std::vector<ImportedConfig>{Transfer(cache)});
  }
  TestBlobs blobs_;
  CacheMachine a_{&blobs_}, b_{&blobs_};
};

// llb.md 6, statement 110: exported, then imported into an empty daemon: nothing runs.
TEST_F(CacheExportTest, Llb6_110_MaxModeBringsEverything) {
  const auto built = a_.Build(kGraph);
  EXPECT_EQ(built.value, "copy(run(base()),context())");
  const auto imports = Import(built.cache);
  EXPECT_EQ(b_.Build(kGraph, CacheMode::kMax, imports).value, built.value);
  EXPECT_EQ(b_.world.total_runs(), 0);
  EXPECT_EQ(imports->loads, 1);
  // A stage in the middle is there, too.
  EXPECT_EQ(b_.Build("base:\nrun: base\n", CacheMode::kMax, imports).value, "run(base())");
  EXPECT_EQ(b_.world.total_runs(), 0);
}

// The same in mode min: layers of the final result and what they consist of, nothing else.
TEST_F(CacheExportTest, Llb6_110_MinModeBringsTheFinalLayers) {
  const char* graph =
      "base:\n"
      "first: base\n"
      "last: base\n"
      "top: last first\n";  // layers of base, last, top
  const auto imports = Import(a_.Build(graph, CacheMode::kMin).cache);
  EXPECT_EQ(b_.Build(graph, CacheMode::kMin, imports).value, "top(last(base()),first(base()))");
  EXPECT_EQ(b_.world.total_runs(), 0);
  b_.Build("base:\nlast: base\n", CacheMode::kMin, imports);
  EXPECT_EQ(b_.world.total_runs(), 0);
  b_.Build("base:\nfirst: base\n", CacheMode::kMin, imports);
  EXPECT_EQ(b_.world.total_runs(), 2);  // base, first
}

// Scenario C4: every key is there: two of sources, one of content, two of results.
TEST_F(CacheExportTest, C4_RecordsAndLayers) {
  const auto built = a_.Build(kGraph);
  EXPECT_EQ(built.cache.config.records.size(), 5u);
  EXPECT_EQ(built.cache.config.layers.size(), 3u);
  // One blob is lost: the record stays as a step.
  ImportedConfig imported = Transfer(built.cache);
  for (const auto& layer : built.cache.config.layers) {
    if (layer.parent != -1) continue;
    imported.blobs.erase(layer.blob);
  }
  const auto imports =
      std::make_shared<TestImports>("cut", &blobs_, std::vector<ImportedConfig>{imported});
  const auto again = b_.Build(kGraph, CacheMode::kMax, imports);
  EXPECT_EQ(b_.world.total_runs(), 4);  // nothing is usable without its lowest layer
  ASSERT_EQ(again.cache.config.records.size(), 5u);
  for (size_t i = 0; i < 5; ++i)
    EXPECT_EQ(again.cache.config.records[i].inputs.size(),
              built.cache.config.records[i].inputs.size());
}

// What is imported whole and exported again is the same cache.
TEST_F(CacheExportTest, C14_ReexportIsByteIdentical) {
  const auto built = a_.Build(kGraph);
  const auto again = b_.Build(kGraph, CacheMode::kMax, Import(built.cache));
  EXPECT_EQ(CacheConfigJson(again.cache.config), CacheConfigJson(built.cache.config));
  EXPECT_EQ(CacheConfigJson(a_.Build(kGraph).cache.config), CacheConfigJson(built.cache.config));
  CacheMachine other(&blobs_);
  auto fresh = other.Build(kGraph).cache.config;
  auto strip = built.cache.config;
  for (auto* config : {&fresh, &strip})
    for (auto& record : config->records)
      for (auto& result : record.results) result.created_at = absl::UnixEpoch();
  EXPECT_EQ(CacheConfigJson(fresh), CacheConfigJson(strip));
}

// Another definition with the same content hits by the content key.
TEST_F(CacheExportTest, ContentKeysHitElsewhere) {
  const auto imports = Import(a_.Build(kGraph).cache);
  const char* other =
      "base:\n"
      "run: base\n"
      "elsewhere: value=context()\n"
      "copy: run elsewhere content=1 sel=1:/src\n";
  EXPECT_EQ(b_.Build(other, CacheMode::kMax, imports).value, "copy(run(base()),context())");
  EXPECT_EQ(b_.world.calls("copy").runs, 0);
  EXPECT_EQ(b_.world.calls("run").runs, 0);
  EXPECT_EQ(b_.world.calls("elsewhere").runs, 1);
}

TEST_F(CacheExportTest, WorkOnTopOfAnImportIsExportedWithIt) {
  const auto imports = Import(a_.Build("base:\nrun: base\n").cache);
  const auto more = b_.Build("base:\nrun: base\nmore: run\n", CacheMode::kMax, imports);
  EXPECT_EQ(b_.world.total_runs(), 1);
  CacheMachine c(&blobs_);
  EXPECT_EQ(c.Build("base:\nrun: base\nmore: run\n", CacheMode::kMax, Import(more.cache)).value,
            "more(run(base()))");
  EXPECT_EQ(c.world.total_runs(), 0);
}

// Two caches, one of them with a part of the graph each.
TEST_F(CacheExportTest, SeveralImportsTogether) {
  const auto left = a_.Build("base:\nleft: base\n");
  CacheMachine other(&blobs_);
  const auto right = other.Build("base:\nright: base\n");
  const auto imports = std::make_shared<TestImports>(
      "both", &blobs_, std::vector<ImportedConfig>{Transfer(left.cache), Transfer(right.cache)});
  b_.Build("base:\nleft: base\nright: base\ntop: left right\n", CacheMode::kMax, imports);
  EXPECT_EQ(b_.world.total_runs(), 1);
}

TEST_F(CacheExportTest, NothingToExport) {
  EXPECT_TRUE(a_.Build("base:\n").cache.config.layers.empty());
}

// Scenario C5 and 4.4: results by their places in the image.
TEST_F(CacheExportTest, InlineNamesLayersByPlace) {
  const char* graph =
      "base:\n"
      "first: base\n"
      "last: base\n"
      "top: last first\n";
  const auto built = a_.Build(graph, CacheMode::kMin);
  std::vector<Digest> diff_ids;
  std::vector<store::Descriptor> descriptors;
  for (const CacheLayerBlob& layer : blobs_.LayersOf(built.value)) {
    diff_ids.push_back(layer.blob.diff_id);
    descriptors.push_back(layer.blob.descriptor);
  }
  TestLayers layers(&blobs_, &a_.world);
  ASSERT_TRUE(MakeCacheExport(built.keys, CacheMode::kMin, layers).ok());
  const auto records = MakeInlineCache(built.keys, diff_ids, layers);
  ASSERT_TRUE(records.ok()) << records.status();
  const auto parsed = ParseCacheRecords(*records);
  ASSERT_TRUE(parsed.ok()) << parsed.status() << *records;
  std::vector<int> tops;
  for (const auto& record : *parsed)
    for (const auto& result : record.results) tops.push_back(result.layer);
  EXPECT_THAT(tops, testing::UnorderedElementsAre(1, 2));  // last, top
  // No layer of this build in the image: no cache.
  EXPECT_EQ(*MakeInlineCache(built.keys, {Digest::Of("x")}, layers), "");
}

// The export walk is linear; its times are printed, for comparing.
TEST_F(CacheExportTest, LargeGraphs) {
  const auto build = [&](int vertices) {
    std::string graph = "base:\n";
    for (int i = 0; i < vertices; ++i)
      absl::StrAppend(&graph, "v", i, ": ", i % 10 == 0 ? "base" : absl::StrCat("v", i - 1),
                      " base\n");
    absl::StrAppend(&graph, "top:");
    for (int i = 9; i < vertices; i += 10) absl::StrAppend(&graph, " v", i);
    absl::StrAppend(&graph, "\n");
    CacheMachine machine(&blobs_);
    const auto job = machine.NewJob();
    const std::string definition = solver::DefinitionOf(graph);
    EXPECT_TRUE(job->BuildAndWait(definition, CancelToken()).ok());
    const absl::Time start = absl::Now();
    const std::vector<solver::SolvedGraph> graphs = {job->Solved(definition).value()};
    const absl::Time solved = absl::Now();
    const std::vector<WalkedKey> keys = WalkKeys(graphs, machine.index).value();
    const absl::Time walked = absl::Now();
    TestLayers layers(&blobs_, &machine.world);
    const CacheExport cache = MakeCacheExport(keys, CacheMode::kMax, layers).value();
    const absl::Time made = absl::Now();
    EXPECT_EQ(cache.config.records.size(), static_cast<size_t>(vertices) + 2);
    const std::string json = CacheConfigJson(cache.config);
    const absl::Time written = absl::Now();
    std::cout << vertices << " vertices, " << json.size() << " bytes; graph " << solved - start
              << ", walk " << walked - solved << ", layers (of the test) and config "
              << made - walked << ", text " << written - made << std::endl;
  };
  build(1000);
  build(10000);
}

}  // namespace
}  // namespace kiln::daemon
