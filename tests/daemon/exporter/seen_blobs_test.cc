#include "daemon/exporter/seen_blobs.h"

#include <gtest/gtest.h>

namespace kiln::daemon {
namespace {

Reference At(const std::string& domain, const std::string& path) { return {domain, path, "", {}}; }

class SeenBlobsTest : public testing::Test {
 protected:
  absl::Time now_ = absl::FromUnixSeconds(1000);
  SeenBlobs seen_{[this] { return now_; }};
  const Digest one_ = Digest::Of("one"), two_ = Digest::Of("two");
};

TEST_F(SeenBlobsTest, FreshIsOnePlaceForAWhile) {
  EXPECT_FALSE(seen_.IsFresh(one_, At("r", "a")));
  seen_.Add(one_, At("r", "a"));
  EXPECT_TRUE(seen_.IsFresh(one_, At("r", "a")));
  EXPECT_FALSE(seen_.IsFresh(two_, At("r", "a")));
  EXPECT_FALSE(seen_.IsFresh(one_, At("r", "b")));
  EXPECT_FALSE(seen_.IsFresh(one_, At("s", "a")));
  now_ += SeenBlobs::kFresh - absl::Nanoseconds(1);
  EXPECT_TRUE(seen_.IsFresh(one_, At("r", "a")));
  now_ += absl::Nanoseconds(1);
  EXPECT_FALSE(seen_.IsFresh(one_, At("r", "a")));
  seen_.Add(one_, At("r", "a"));
  EXPECT_TRUE(seen_.IsFresh(one_, At("r", "a")));
  now_ -= absl::Seconds(1);
  EXPECT_FALSE(seen_.IsFresh(one_, At("r", "a"))) << "the clock was set back";
}

TEST_F(SeenBlobsTest, TheLastOtherRepositoryOfTheRegistry) {
  seen_.Add(one_, At("r", "b"));
  EXPECT_EQ(seen_.OtherPath(one_, At("r", "b")), "");
  EXPECT_EQ(seen_.OtherPath(one_, At("r", "a")), "b");
  EXPECT_EQ(seen_.OtherPath(one_, At("s", "a")), "");
  EXPECT_EQ(seen_.OtherPath(two_, At("r", "a")), "");
  now_ += absl::Hours(1);  // no need for it to be fresh: a mount says whether it worked
  seen_.Add(one_, At("r", "a"));
  EXPECT_EQ(seen_.OtherPath(one_, At("r", "c")), "a");
  EXPECT_EQ(seen_.OtherPath(one_, At("r", "a")), "b");
}

TEST_F(SeenBlobsTest, IsBounded) {
  for (int i = 0; i < 20000; ++i) seen_.Add(Digest::Of(std::to_string(i)), At("r", "a"));
  EXPECT_TRUE(seen_.IsFresh(Digest::Of("19999"), At("r", "a")));
  EXPECT_FALSE(seen_.IsFresh(Digest::Of("0"), At("r", "a")));
}

}  // namespace
}  // namespace kiln::daemon
