#include "daemon/control/gc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kiln::daemon {
namespace {

constexpr int64_t kDisk = 500'000'000'000;

// Compared with buildkitd's defaults for a disk of 500 GB.
TEST(GcPolicies, DefaultsAreBuildkits) {
  const auto policies = GcPolicies(GcConfig(), kDisk);
  ASSERT_EQ(policies.size(), 4u);
  EXPECT_EQ(policies[0].max_used_bytes, 512'000'000);
  EXPECT_EQ(policies[0].keep_duration, absl::Hours(48));
  EXPECT_THAT(policies[0].filters, testing::Contains("type==source.local"));
  EXPECT_EQ(policies[1].keep_duration, absl::Hours(24 * 60));
  for (int i = 1; i < 4; ++i) {
    EXPECT_EQ(policies[i].reserved_bytes, 10'000'000'000);
    EXPECT_EQ(policies[i].max_used_bytes, 100'000'000'000);
    EXPECT_EQ(policies[i].min_free_bytes, 94'000'000'000);
    EXPECT_EQ(policies[i].all, i == 3);
  }
}

TEST(GcPolicies, LimitsReplaceTheDefaultOnes) {
  GcConfig config;
  config.max_used.bytes = 7;
  const auto policies = GcPolicies(config, kDisk);
  ASSERT_EQ(policies.size(), 4u);
  EXPECT_EQ(policies[3].max_used_bytes, 7);
  EXPECT_EQ(policies[3].reserved_bytes, 0);
}

TEST(GcPolicies, RulesReplaceEverything) {
  GcConfig config;
  config.policies.resize(1);
  config.policies[0].min_free.percent = 50;
  config.policies[0].all = true;
  const auto policies = GcPolicies(config, 0);
  ASSERT_EQ(policies.size(), 1u);
  EXPECT_TRUE(policies[0].all);
  EXPECT_EQ(policies[0].min_free_bytes, 2'000'000'000);  // size of the disk unknown
}

TEST(GcPolicies, Off) {
  GcConfig config;
  config.enabled = false;
  EXPECT_TRUE(GcPolicies(config, kDisk).empty());
}

}  // namespace
}  // namespace kiln::daemon
