#include "store/ref/prune_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kiln::store {
namespace {

using testing::ElementsAre;

struct KeepCase {
  const char* name;
  int64_t reserved, max_used, min_free;
  int64_t total, free;
  int64_t want;
};
class BytesToKeepTest : public testing::TestWithParam<KeepCase> {};

TEST_P(BytesToKeepTest, G1_Llb6_105_Target) {
  PruneOptions options;
  options.reserved_bytes = GetParam().reserved;
  options.max_used_bytes = GetParam().max_used;
  options.min_free_bytes = GetParam().min_free;
  EXPECT_EQ(BytesToKeep(options, GetParam().total, GetParam().free), GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(Rules, BytesToKeepTest,
                         testing::ValuesIn<KeepCase>({
                             {"NoLimitDeletesAll", 0, 0, 0, 500, 10, 0},
                             {"MaxUsed", 0, 100, 0, 500, 10, 100},
                             {"ReservedAlone", 50, 0, 0, 500, 10, 50},
                             {"ReservedBeatsMaxUsed", 200, 100, 0, 500, 10, 200},
                             {"MinFreeUnmetTakesTheExcess", 0, 0, 40, 500, 10, 470},
                             {"MinFreeUnmetLowersMaxUsed", 0, 490, 40, 500, 10, 470},
                             {"MaxUsedMayBeLowerAlready", 0, 100, 40, 500, 10, 100},
                             {"ReservedIsNeverUndercut", 480, 0, 40, 500, 10, 480},
                             {"MinFreeMetKeepsEverything", 0, 0, 40, 500, 41, 501},
                             {"MinFreeMetLeavesMaxUsed", 0, 100, 40, 500, 41, 100},
                             {"TableMaxUsed", 0, 2000, 0, 1000, 9000, 2000},
                             {"TableMinFree", 0, 0, 5000, 7000, 3000, 5000},
                             {"TableReserved", 6000, 0, 5000, 7000, 3000, 6000},
                             {"TableAll", 2000, 4000, 5000, 7000, 3000, 4000},
                             {"TableShared", 0, 2000, 0, 4000, 2000, 2000},
                             {"TableSharedMinFree", 0, 2000, 5000, 4000, 2000, 1000},
                             {"TableSharedAll", 2000, 2000, 5000, 4000, 2000, 2000},
                             {"ExcessBeyondTotalDeletesAll", 0, 0, 1000, 500, 10, 0},
                         }),
                         [](const auto& test) { return std::string(test.param.name); });

PruneRank Rank(int used, int64_t count) {
  PruneRank rank;
  if (used > 0) rank.last_used_at = absl::FromUnixSeconds(used);
  rank.usage_count = count;
  rank.created_at = absl::FromUnixSeconds(1000);
  return rank;
}

TEST(DeletionOrderTest, OldAndRareFirst) {
  EXPECT_THAT(DeletionOrder({Rank(30, 3), Rank(10, 1), Rank(20, 2)}), ElementsAre(1, 2, 0));
}

TEST(DeletionOrderTest, NeverUsedIsOldest) {
  EXPECT_THAT(DeletionOrder({Rank(10, 1), Rank(0, 0)}), ElementsAre(1, 0));
}

TEST(DeletionOrderTest, AgeAndCountWeighTheSame) {
  // Last use: positions 2, 3, 4 of 4. Counts: 4, 3, 2 of 4. All sums are equal: age of creation.
  std::vector<PruneRank> ranks = {Rank(10, 30), Rank(20, 20), Rank(30, 10)};
  ranks[0].created_at = absl::FromUnixSeconds(3);
  ranks[1].created_at = absl::FromUnixSeconds(1);
  ranks[2].created_at = absl::FromUnixSeconds(2);
  EXPECT_THAT(DeletionOrder(ranks), ElementsAre(1, 2, 0));
}

TEST(DeletionOrderTest, EqualValuesShareAPosition) {
  // Positions: use 2,2,3 of 3; count 3,2,2 of 3.
  EXPECT_THAT(DeletionOrder({Rank(10, 2), Rank(10, 1), Rank(20, 1)}), ElementsAre(1, 0, 2));
}

}  // namespace
}  // namespace kiln::store
