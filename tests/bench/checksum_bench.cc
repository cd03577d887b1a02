// Content checksums: hashing what is not known, and finding what is.
#include <benchmark/benchmark.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "store/checksum.h"
#include "store/tree_writer.h"

namespace kiln::store {
namespace {

class Scratch {
 public:
  Scratch() {
    // TMPDIR chooses the file system.
    path_ = std::filesystem::temp_directory_path() / "kiln-bench-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  std::string layer() const {
    std::filesystem::create_directories(path_ + "/1/fs");
    return path_ + "/1/fs";
  }

 private:
  std::string path_;
};

void Fill(const std::string& layer, int files, size_t size, ChecksumRecorder* recorder) {
  const auto writer = NewTreeWriter({}, layer, false, recorder);
  const std::string data(size, 'x');
  for (int i = 0; i < files; ++i) {
    const std::string dir = absl::StrCat("/d", i / 100);
    if (i % 100 == 0 && !writer->MakeDir(dir, {}).ok()) std::abort();
    if (!writer->WriteFile(absl::StrCat(dir, "/f", i), data, {}).ok()) std::abort();
  }
}

void RootSum(ChecksumStore& store, const std::string& layer) {
  if (!store.Checksum({layer}, "/", {}, CancelToken()).ok()) std::abort();
}

// A tree nobody knows anything of, in the page cache.
void Scan(benchmark::State& state) {
  const Scratch scratch;
  const int files = static_cast<int>(state.range(0));
  const size_t size = static_cast<size_t>(state.range(1));
  Fill(scratch.layer(), files, size, nullptr);
  for (auto _ : state) {
    std::filesystem::remove(ChecksumStore::FileFor(scratch.layer()));
    ChecksumStore store;
    RootSum(store, scratch.layer());
  }
  state.counters["files/s"] = benchmark::Counter(static_cast<double>(files) * state.iterations(),
                                                 benchmark::Counter::kIsRate);
  state.SetBytesProcessed(state.iterations() * files * static_cast<int64_t>(size));
}
BENCHMARK(Scan)->Args({20000, 1000})->Args({4, 64 << 20})->Unit(benchmark::kMillisecond);

// After a restart: the file is read, directories are known.
void Reopen(benchmark::State& state) {
  const Scratch scratch;
  Fill(scratch.layer(), static_cast<int>(state.range(0)), 1000, nullptr);
  {
    ChecksumStore store;
    RootSum(store, scratch.layer());
  }
  for (auto _ : state) {
    ChecksumStore store;
    RootSum(store, scratch.layer());
  }
}
BENCHMARK(Reopen)->Arg(20000)->Unit(benchmark::kMillisecond);

// A synchronised directory of which one file changed.
void OneChanged(benchmark::State& state) {
  const Scratch scratch;
  const std::string layer = scratch.layer();
  ChecksumStore store;
  Fill(layer, static_cast<int>(state.range(0)), 1000, nullptr);
  RootSum(store, layer);
  int round = 0;
  for (auto _ : state) {
    auto recorder = store.Record(layer);
    if (!recorder.ok()) std::abort();
    const auto writer = NewTreeWriter({}, layer, false, recorder->get());
    if (!writer->WriteFile("/d1/f150", absl::StrCat(round++), {}).ok()) std::abort();
    if (!(*recorder)->Commit().ok()) std::abort();
    RootSum(store, layer);
  }
}
BENCHMARK(OneChanged)->Arg(20000)->Unit(benchmark::kMillisecond);

// Writing with and without taking note of digests.
void Write(benchmark::State& state) {
  const int files = 5000;
  for (auto _ : state) {
    state.PauseTiming();
    auto scratch = std::make_unique<Scratch>();
    const std::string layer = scratch->layer();
    ChecksumStore store;
    state.ResumeTiming();
    if (state.range(0) == 0) {
      Fill(layer, files, 1000, nullptr);
    } else {
      auto recorder = store.Record(layer);
      Fill(layer, files, 1000, recorder->get());
      if (!(*recorder)->Commit().ok()) std::abort();
    }
    state.PauseTiming();
    scratch.reset();
    state.ResumeTiming();
  }
  state.counters["files/s"] = benchmark::Counter(static_cast<double>(files) * state.iterations(),
                                                 benchmark::Counter::kIsRate);
}
BENCHMARK(Write)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kiln::store

BENCHMARK_MAIN();
