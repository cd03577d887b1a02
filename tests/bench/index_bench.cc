// The cache index at a million records: fill, look-ups, saves, releases, reopening.
// The index is made once, below KILN_BENCH_DIR (default: the temporary folder), and removed.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/check.h"
#include "store/cache_index.h"
#include "store/database.h"
#include "store/rocks_cache_index.h"

namespace kiln::store {
namespace {

constexpr int kHotTargets = 100000;

int64_t Records() {
  const char* text = std::getenv("KILN_BENCH_RECORDS");
  return text == nullptr ? 1000000 : std::atoll(text);
}

OpOutput Op(int64_t i) { return {Digest::Of(absl::StrCat("op ", i)).ToString(), 0}; }

std::unique_ptr<Database> OpenAt(const std::string& path) {
  DatabaseOptions options;
  options.path = path;
  options.boot_id = "boot";
  auto database = Database::Open(options);
  KILN_CHECK(database.ok());
  return *std::move(database);
}

// A chain of ten steps from each root, as builds make them: each step is reached by its definition
// and by the content of its input. And one base image below kHotTargets copies of contexts.
class Fixture {
 public:
  static Fixture& Get() {
    static Fixture fixture;
    return fixture;
  }

  const std::string& path() const { return path_; }
  Database& database() { return *database_; }
  RocksCacheIndex& index() { return *index_; }
  double fill_seconds() const { return fill_seconds_; }

  void Close() {
    index_.reset();
    database_.reset();
  }
  void Open() {
    database_ = OpenAt(path_);
    index_ = std::make_unique<RocksCacheIndex>(database_.get());
  }

  static KeyId Root(int64_t chain) { return CacheIndex::RootKey(Op(chain * 10)); }
  static std::string ResultId(int64_t i) {
    return absl::StrCat("w::", Digest::Of(absl::StrCat(i)).hex().substr(0, 25));
  }
  static std::vector<std::vector<InputKey>> HotInputs(int64_t i) {
    return {{{CacheIndex::RootKey({"hot base", 0}), ""}},
            {{CacheIndex::ContentKey(absl::StrCat("context ", i)), ""}}};
  }

 private:
  Fixture() {
    const char* dir = std::getenv("KILN_BENCH_DIR");
    path_ = absl::StrCat(dir == nullptr ? std::filesystem::temp_directory_path().string() : dir,
                         "/kiln-index-bench-", absl::ToUnixNanos(absl::Now()));
    Open();
    const absl::Time begin = absl::Now();
    KeyId key;
    for (int64_t i = 0; i < Records(); ++i) {
      std::vector<std::vector<InputKey>> inputs;
      if (i % 10 != 0)
        inputs = {{{key, "sel"}, {CacheIndex::ContentKey(absl::StrCat("content ", i)), ""}}};
      auto saved = index_->Save(Op(i), inputs, {ResultId(i), absl::FromUnixSeconds(i), 0});
      KILN_CHECK(saved.ok());
      key = *saved;
    }
    fill_seconds_ = absl::ToDoubleSeconds(absl::Now() - begin);
    for (int64_t i = 0; i < kHotTargets; ++i)
      KILN_CHECK(index_->Save({"hot copy", 0}, HotInputs(i), {ResultId(-1 - i), begin, 0}).ok());
  }
  ~Fixture() {
    Close();
    std::filesystem::remove_all(path_);
  }

  std::string path_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<RocksCacheIndex> index_;
  double fill_seconds_ = 0;
};

void BM_Fill(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  for (auto _ : state) benchmark::DoNotOptimize(fixture.path());
  state.counters["fill_s"] = fixture.fill_seconds();
  state.counters["us_per_save"] = fixture.fill_seconds() * 1e6 / static_cast<double>(Records());
  state.counters["disk_MB"] = static_cast<double>(fixture.database().DiskBytes()) / 1e6;
}

// Walks one chain: ten look-ups and the reading of the last record.
void BM_CachedChain(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  int64_t chain = 0;
  for (auto _ : state) {
    chain = (chain + 7919) % (Records() / 10);
    KeyId key = Fixture::Root(chain);
    KILN_CHECK(*fixture.index().HasRoot(key));
    for (int64_t step = 1; step < 10; ++step) {
      const InputKey keys[] = {{key, "sel"}};
      auto found = fixture.index().Query(keys, 0, Op(chain * 10 + step));
      KILN_CHECK(found.ok() && found->size() == 1);
      key = (*found)[0];
    }
    KILN_CHECK(fixture.index().Records(key)->size() == 1);
  }
}

void BM_QueryPresent(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  int64_t chain = 0;
  for (auto _ : state) {
    chain = (chain + 7919) % (Records() / 10);
    const InputKey keys[] = {{Fixture::Root(chain), "sel"}};
    auto found = fixture.index().Query(keys, 0, Op(chain * 10 + 1));
    KILN_CHECK(found.ok() && found->size() == 1);
  }
}

void BM_QueryAbsent(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  int64_t i = 0;
  for (auto _ : state) {
    const InputKey keys[] = {{Digest::Of(absl::StrCat("absent ", ++i)), "sel"}};
    KILN_CHECK(fixture.index().Query(keys, 0, Op(i))->empty());
  }
}

void BM_RecordsPresent(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  int64_t chain = 0;
  for (auto _ : state) {
    chain = (chain + 7919) % (Records() / 10);
    KILN_CHECK(fixture.index().Records(Fixture::Root(chain))->size() == 1);
  }
}

// One of 100,000 targets of a common key, found through the other input.
void BM_MatchBelowAHotKey(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  int64_t i = 0;
  for (auto _ : state) {
    i = (i + 7919) % kHotTargets;
    auto found = fixture.index().Match(Fixture::HotInputs(i), {"hot copy", 0});
    KILN_CHECK(found.ok() && found->size() == 1);
  }
}

void BM_MatchManyInputs(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  const OpOutput op = {absl::StrCat("wide ", state.range(0)), 0};
  std::vector<std::vector<InputKey>> inputs;
  for (int64_t i = 0; i < state.range(0); ++i)
    inputs.push_back({{Fixture::Root(i % (Records() / 10)), ""},
                      {CacheIndex::ContentKey(absl::StrCat("wide ", i)), ""}});
  KILN_CHECK(fixture.index().Save(op, inputs, {"w::wide", absl::Now(), 0}).ok());
  for (auto _ : state) {
    auto found = fixture.index().Match(inputs, op);
    KILN_CHECK(found.ok() && found->size() == 1);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void BM_Save(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  static int64_t i = 0;
  KeyId key = Fixture::Root(1);
  for (auto _ : state) {
    ++i;
    const std::vector<std::vector<InputKey>> inputs = {
        {{key, "sel"}, {CacheIndex::ContentKey(absl::StrCat("new content ", i)), ""}}};
    auto saved = fixture.index().Save(Op(-i), inputs,
                                      {absl::StrCat("w::new ", i), absl::FromUnixSeconds(i), 0});
    KILN_CHECK(saved.ok());
    key = i % 10 == 0 ? Fixture::Root(i % (Records() / 10)) : *saved;
  }
}

// Releases results that all hang on one common key.
void BM_ReleaseBelowAHotKey(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  static int64_t i = 0;
  for (auto _ : state) {
    KILN_CHECK(fixture.index().Release(Fixture::ResultId(-1 - i)).ok());
    ++i;
  }
}

void BM_Barrier(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  for (auto _ : state) {
    Batch batch;
    batch.Put(Family::kUsage, "k", "v");
    KILN_CHECK(fixture.database().Write(batch).ok());
    KILN_CHECK(fixture.database().Barrier().ok());
  }
}

// From opening to the first answer.
void BM_Reopen(benchmark::State& state) {
  Fixture& fixture = Fixture::Get();
  for (auto _ : state) {
    state.PauseTiming();
    fixture.Close();
    state.ResumeTiming();
    fixture.Open();
    KILN_CHECK(*fixture.index().HasRoot(Fixture::Root(5)));
  }
}

void BM_OpenEmpty(benchmark::State& state) {
  int64_t i = 0;
  for (auto _ : state) {
    state.PauseTiming();
    const std::string path = absl::StrCat(Fixture::Get().path(), "-empty-", ++i);
    state.ResumeTiming();
    std::unique_ptr<Database> database = OpenAt(path);
    state.PauseTiming();
    database.reset();
    std::filesystem::remove_all(path);
    state.ResumeTiming();
  }
}

BENCHMARK(BM_Fill)->Iterations(1);
BENCHMARK(BM_CachedChain);
BENCHMARK(BM_QueryPresent);
BENCHMARK(BM_QueryAbsent);
BENCHMARK(BM_RecordsPresent);
BENCHMARK(BM_MatchBelowAHotKey);
BENCHMARK(BM_MatchManyInputs)->Arg(1)->Arg(10)->Arg(400);
BENCHMARK(BM_Save);
BENCHMARK(BM_ReleaseBelowAHotKey)->Iterations(20000);
BENCHMARK(BM_Barrier)->Iterations(50)->UseRealTime();
BENCHMARK(BM_Reopen)->Iterations(10)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_OpenEmpty)->Iterations(10)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace kiln::store
