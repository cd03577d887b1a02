// A layer of 200 MB: 4,000 files of text and code, unpacked and packed. Needs root.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "store/layer/block_codec.h"
#include "store/layer/block_compressor.h"
#include "store/layer/decompressor.h"
#include "store/layer/layer_tar.h"
#include "store/layer/layer_unpacker.h"
#include "store/snapshot/driver.h"

namespace kiln::store {
namespace {

constexpr int kFiles = 4000, kFileBytes = 50 << 10;

std::string Base() {
  const char* dir = std::getenv("KILN_BENCH_DIR");
  return absl::StrCat(dir == nullptr ? "/tmp" : dir, "/kiln-layer-bench");
}

// Half of it this program's own code, half words.
const std::string& Tree() {
  static const std::string tree = [] {
    const std::string root = Base() + "/tree";
    if (!RemoveTree(Base()).ok()) std::abort();
    ::mkdir(Base().c_str(), 0755);
    ::mkdir(root.c_str(), 0755);
    std::ifstream self("/proc/self/exe", std::ios::binary);
    const std::string code((std::istreambuf_iterator<char>(self)), {});
    std::mt19937 dice(1);
    for (int i = 0; i < kFiles; ++i) {
      const std::string dir = absl::StrCat(root, "/", i / 100);
      ::mkdir(dir.c_str(), 0755);
      std::string data;
      if (i % 2 == 0) data = code.substr(dice() % (code.size() - kFileBytes), kFileBytes);
      while (data.size() < kFileBytes) absl::StrAppend(&data, "word", dice() % 3000, " ");
      data.resize(kFileBytes);
      std::ofstream(absl::StrCat(dir, "/", i)) << data;
    }
    return root;
  }();
  return tree;
}

// The tar of the tree to `sink`.
void WriteTar(const ByteSink& sink) {
  DiffOptions diff;
  diff.top_layer = Tree();
  if (!WriteLayerTar(TreeReader({}), TreeReader({Tree()}), diff, {}, sink).ok()) std::abort();
}

using MakeCodec = absl::StatusOr<std::unique_ptr<BlockCodec>> (*)(std::optional<int>);

std::string Packed(MakeCodec make, std::optional<int> level) {
  std::string out;
  BlockCompressor packer(&CompressionBudget::OfProcess(), *make(level),
                         [&](absl::string_view bytes) {
                           out.append(bytes.data(), bytes.size());
                           return absl::OkStatus();
                         });
  Sha256 diff_id;
  WriteTar([&](absl::string_view bytes) {
    diff_id.Update(bytes);
    return packer.Append(bytes);
  });
  if (!packer.Finish().ok()) std::abort();
  benchmark::DoNotOptimize(diff_id.Finish());
  benchmark::DoNotOptimize(Digest::Of(out));
  return out;
}

void Report(benchmark::State& state, size_t packed) {
  state.SetBytesProcessed(state.iterations() * int64_t{kFiles} * kFileBytes);
  if (packed > 0)
    state.counters["ratio"] =
        static_cast<double>(kFiles) * kFileBytes / static_cast<double>(packed);
}

void BM_Pack(benchmark::State& state, MakeCodec make, std::optional<int> level) {
  Tree();
  size_t size = 0;
  for (auto _ : state) size = Packed(make, level).size();
  Report(state, size);
}

void BM_TarOnly(benchmark::State& state) {
  Tree();
  for (auto _ : state) {
    Sha256 hash;
    WriteTar([&](absl::string_view bytes) {
      hash.Update(bytes);
      return absl::OkStatus();
    });
    benchmark::DoNotOptimize(hash.Finish());
  }
  Report(state, 0);
}

class Whole final : public ByteStream {
 public:
  explicit Whole(absl::string_view bytes) : rest_(bytes) {}
  absl::StatusOr<absl::string_view> Next() override {
    const absl::string_view out = rest_.substr(0, 256 << 10);
    rest_.remove_prefix(out.size());
    return out;
  }

 private:
  absl::string_view rest_;
};

void BM_Unpack(benchmark::State& state, MakeCodec make) {
  const std::string packed = Packed(make, std::nullopt);
  const std::string target = Base() + "/target";
  for (auto _ : state) {
    state.PauseTiming();
    if (!RemoveTree(target).ok()) std::abort();
    ::mkdir(target.c_str(), 0755);
    state.ResumeTiming();
    Whole in(packed);
    auto plain = *NewDecompressor(&in);
    HashingStream tar(plain.get());
    auto unpacker = *LayerUnpacker::Create(target, {});
    if (!unpacker->Unpack(tar).ok() || !unpacker->Settle({}).ok()) std::abort();
    benchmark::DoNotOptimize(tar.Finish());
  }
  Report(state, 0);
}

BENCHMARK(BM_TarOnly)->Unit(benchmark::kMillisecond)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK_CAPTURE(BM_Pack, gzip, NewGzipCodec, std::nullopt)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();
BENCHMARK_CAPTURE(BM_Pack, gzip6, NewGzipCodec, 6)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();
BENCHMARK_CAPTURE(BM_Pack, zstd, NewZstdCodec, std::nullopt)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();
BENCHMARK_CAPTURE(BM_Unpack, gzip, NewGzipCodec)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();
BENCHMARK_CAPTURE(BM_Unpack, zstd, NewZstdCodec)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();

}  // namespace
}  // namespace kiln::store

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  kiln::store::RemoveTree(kiln::store::Base()).IgnoreError();
}
