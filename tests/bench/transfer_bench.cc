// Sends a directory of 20,000 files through a socketpair: first into an empty place, then once more
// with one file changed.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/source/local_target.h"
#include "store/fsutil/directory_source.h"
#include "store/fsutil/directory_target.h"
#include "store/fsutil/receiver.h"
#include "store/fsutil/sender.h"
#include "store/tree_writer.h"
#include "tests/store/fsutil/socket_stream.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln {
namespace {

using fsutil::TestTree;

constexpr int kDirectories = 200, kFilesEach = 100;

const TestTree& Context() {
  static const TestTree* const tree = [] {
    auto* made = new TestTree();
    for (int d = 0; d < kDirectories; ++d) {
      made->Dir(absl::StrCat("d", d));
      for (int f = 0; f < kFilesEach; ++f)
        made->File(absl::StrCat("d", d, "/file-", f, ".txt"), std::string(200 + f * 40, 'x'));
    }
    std::atexit([] { (void)fsutil::RemoveTree(AT_FDCWD, Context().path()); });
    return made;
  }();
  return *tree;
}

void Transfer(fsutil::ReceiveTarget& target, const std::string& existing) {
  auto source = fsutil::DirectorySource::Create(Context().path(), {});
  auto [a, b] = fsutil::SocketStream::Pair();
  absl::Status sent;
  std::thread sender([&, stream = a.get()] { sent = fsutil::Send(*stream, **source); });
  fsutil::ReceiveOptions options;
  options.existing_root = existing;
  const absl::Status received = fsutil::Receive(*b, target, options);
  sender.join();
  if (!sent.ok() || !received.ok()) std::abort();
}

// Removed at the end of the program: ext4 does not hand out inodes that were deleted within the
// last seconds and searches long for others.
const TestTree& NewPlace() {
  static std::vector<std::unique_ptr<TestTree>> places;
  places.push_back(std::make_unique<TestTree>());
  return *places.back();
}

void BM_FirstIntoDirectory(benchmark::State& state) {
  Context();
  for (auto _ : state) {
    const TestTree& to = NewPlace();
    auto target = fsutil::DirectoryTarget::Open(to.path(), true);
    Transfer(**target, to.path());
  }
}
BENCHMARK(BM_FirstIntoDirectory)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_FirstIntoSnapshot(benchmark::State& state) {
  Context();
  for (auto _ : state) {
    const TestTree& to = NewPlace();
    auto writer = store::NewTreeWriter({}, to.path(), false, nullptr);
    daemon::LocalTarget target([&] { return writer.get(); }, to.path());
    Transfer(target, to.path());
  }
}
BENCHMARK(BM_FirstIntoSnapshot)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_OneFileChanged(benchmark::State& state) {
  TestTree to;
  auto writer = store::NewTreeWriter({}, to.path(), false, nullptr);
  daemon::LocalTarget target([&] { return writer.get(); }, to.path());
  Transfer(target, to.path());
  int64_t seconds = 5000;
  for (auto _ : state) {
    Context().File("d7/file-7.txt", "changed", 0644, ++seconds);
    Transfer(target, to.path());
  }
}
BENCHMARK(BM_OneFileChanged)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace kiln

BENCHMARK_MAIN();
