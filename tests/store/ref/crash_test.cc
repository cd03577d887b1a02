#include <cstdlib>
#include <map>
#include <random>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/store/ref/invariants.h"
#include "tests/store/ref/random_load.h"
#include "tests/store/ref/store_fixture.h"
#include "tests/store/run_and_kill.h"

namespace kiln::store {
namespace {

using testing::IsEmpty;

int Runs() {
  int count = 20;
  if (const char* text = std::getenv("KILN_CRASH_RUNS"); text != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(text, &count)) << text;
  }
  return count;
}

using RefStoreCrash = RefStoreTest;

TEST_F(RefStoreCrash, G5_Llb6_106_KillAtRandomPointsLeavesAConsistentStore) {
  Close();
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 dice(seed);
  std::map<std::string, std::string> must_be_there;
  for (int run = 0; run < Runs() && !HasFailure(); ++run) {
    const absl::Duration life = absl::Milliseconds(30 + dice() % 300);
    // Opening the store is killed in its middle, too.
    const std::string said = RunAndKill({KILN_REF_LOAD, dir_ + "/root", absl::StrCat(dice())}, life,
                                        run % 2 == 0 ? LifeFrom::kFirstWord : LifeFrom::kStart);
    for (const absl::string_view line : absl::StrSplit(said, '\n', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> parts =
          absl::StrSplit(line, absl::MaxSplits(' ', 1));
      must_be_there.insert(parts);
    }
    Open();
    store_->Drain();
    EXPECT_THAT(Violations(*root_, *database_, *store_), IsEmpty()) << "run " << run;
    for (const auto& [id, content] : must_be_there) {
      absl::StatusOr<RefPtr> ref = store_->Get(id);
      ASSERT_TRUE(ref.ok()) << "run " << run << ": " << ref.status();
      EXPECT_EQ(ShowTree(*ref), content) << id;
    }
    for (const UsageInfo& info : Must(store_->DiskUsage({}))) {
      if (!info.is_mutable) {
        EXPECT_TRUE(store_->Get(info.id).ok()) << info.id;
      }
    }
    Close();
  }
  EXPECT_FALSE(must_be_there.empty());
}

}  // namespace
}  // namespace kiln::store
