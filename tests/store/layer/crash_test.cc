#include <random>

#include "absl/strings/numbers.h"
#include "store/ref/record.h"
#include "tests/store/layer/image_load.h"
#include "tests/store/ref/store_fixture.h"
#include "tests/store/run_and_kill.h"

namespace kiln::store {
namespace {

int Runs() {
  int count = 12;
  if (const char* text = std::getenv("KILN_CRASH_RUNS"); text != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(text, &count)) << text;
  }
  return count;
}

using LayerCrash = RefStoreTest;

TEST_F(LayerCrash, KillAtRandomPointsLeavesNothingHalf) {
  Close();
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 dice(seed);
  FixedImages images;
  int looked_at = 0;
  for (int run = 0; run < Runs() && !HasFailure(); ++run) {
    const absl::Duration life = absl::Milliseconds(dice() % 500);
    (void)RunAndKill({KILN_LAYER_LOAD, dir_ + "/root", absl::StrCat(dice())}, life,
                     run % 2 == 0 ? LifeFrom::kFirstWord : LifeFrom::kStart);
    Open();
    auto blobs = Must(BlobStore::Open(root_.get(), database_.get(), {}));
    LocalLayerStoreOptions options;
    options.root = root_.get();
    options.database = database_.get();
    options.refs = store_.get();
    options.blobs = blobs.get();
    options.fetcher = &images;
    auto layers = std::make_unique<LocalLayerStore>(options);
    store_->Drain();
    Must(layers->Sweep());
    Must(blobs->SweepFiles().status());

    // Leases belong to snapshots, and hold what is there.
    for (const std::string& lease : Must(blobs->Leases("snapshot/"))) {
      const uint64_t number = *internal::SnapshotOfLease(lease);
      EXPECT_TRUE(Must(database_->Has(Family::kRefs, internal::SnapshotKey(number)))) << lease;
      for (const Digest& digest : Must(blobs->Held(lease))) {
        Fd file = Must(blobs->OpenBlob(digest));
        EXPECT_EQ(Digest::Of(Must(ReadAll(file.get()))), digest);
      }
    }
    for (const std::string& folder : Folders()) {
      uint64_t number = 0;
      ASSERT_TRUE(absl::SimpleAtoi(folder, &number)) << folder;
      EXPECT_TRUE(Must(database_->Has(Family::kRefs, internal::SnapshotKey(number)))) << folder;
    }
    // Every layer is whole, or comes whole when it is asked for.
    for (const UsageInfo& info : Must(store_->DiskUsage({}))) {
      const RefPtr ref = Must(store_->Get(info.id));
      int files = 0;
      Must(TreeReader(Must(ref->Materialize({}))).Walk("/d", [&](const std::string&, const Entry&) {
        ++files;
        return absl::StatusOr<bool>(true);
      }));
      EXPECT_EQ(absl::StrCat(files), info.description) << info.id;
      ++looked_at;
    }
    // And all of it can go.
    if (run % 4 == 3) {
      store_->Drain();
      Must(store_->Prune({.all = true}, {}, nullptr));
      EXPECT_EQ(blobs->UsedBytes(), 0);
      EXPECT_TRUE(Folders().empty());
    }
    layers.reset();
    blobs.reset();
    Close();
  }
  EXPECT_GT(looked_at, 0);
}

}  // namespace
}  // namespace kiln::store
