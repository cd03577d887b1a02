#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/store/ref/invariants.h"
#include "tests/store/ref/random_load.h"
#include "tests/store/ref/store_fixture.h"

namespace kiln::store {
namespace {

using testing::IsEmpty;

int Iterations() {
  int count = 20;
  if (const char* text = std::getenv("KILN_STRESS_ITERATIONS"); text != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(text, &count)) << text;
  }
  return count;
}

class RefStoreStress : public EachDriverTest {
 protected:
  LocalRefStoreOptions Options() override {
    LocalRefStoreOptions options;
    options.driver = GetParam();
    options.max_layers = overlay() ? 6 : 0;
    return options;
  }
};
FOR_EACH_DRIVER(RefStoreStress);

TEST_P(RefStoreStress, ThreadsMakeReadMergeReopenAndPrune) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  RandomLoad load(store_.get(), nullptr);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) {
    threads.emplace_back(
        [&load, dice = std::mt19937(seed + i), steps = 10 * Iterations()]() mutable {
          for (int step = 0; step < steps; ++step) {
            const std::string wrong = load.Step(dice);
            EXPECT_EQ(wrong, "");
            if (!wrong.empty()) return;
          }
        });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(load.Check(), IsEmpty());
  store_->Drain();
  EXPECT_THAT(Violations(*root_, *database_, *store_), IsEmpty());
  Restart();
  store_->Drain();
  EXPECT_THAT(Violations(*root_, *database_, *store_), IsEmpty());
}

}  // namespace
}  // namespace kiln::store
