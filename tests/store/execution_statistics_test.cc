#include "store/execution_statistics.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/store/temp_dir.h"

namespace kiln::store {
namespace {

class ExecutionStatisticsTest : public testing::Test {
 protected:
  void SetUp() override { Open(); }
  void Open() {
    statistics_.reset();
    database_.reset();
    DatabaseOptions options;
    options.path = dir_.path() + "/index";
    options.boot_id = "boot";
    auto database = Database::Open(options);
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    statistics_ = std::make_unique<ExecutionStatistics>(database_.get());
  }
  size_t Rows() {
    size_t rows = 0;
    for (Cursor c = database_->Scan(Family::kStatistics, ""); c.Valid(); c.Next()) ++rows;
    return rows;
  }

  TempDir dir_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<ExecutionStatistics> statistics_;
};

TEST_F(ExecutionStatisticsTest, LaterTimesCountMore) {
  EXPECT_EQ(statistics_->Mean("op"), absl::ZeroDuration());
  statistics_->Record("op", absl::Seconds(10));
  statistics_->Record("op", absl::Seconds(2));
  EXPECT_EQ(statistics_->Mean("op"), absl::Seconds(8));
  statistics_->Record("op", -absl::Seconds(5));
  EXPECT_EQ(statistics_->Mean("op"), absl::Seconds(6));
}

TEST_F(ExecutionStatisticsTest, WrittenLazilyAndAtTheEnd) {
  statistics_->Record("op", absl::Seconds(3));
  EXPECT_EQ(Rows(), 0u);
  Open();
  EXPECT_EQ(Rows(), 1u);
  EXPECT_EQ(statistics_->Mean("op"), absl::Seconds(3));
}

TEST_F(ExecutionStatisticsTest, Bounded) {
  for (int i = 0; i < 150000; ++i) statistics_->Record(absl::StrCat("op", i), absl::Seconds(1));
  ASSERT_TRUE(statistics_->Flush().ok());
  EXPECT_LE(Rows(), size_t{ExecutionStatistics::kSets});
  EXPECT_EQ(statistics_->Mean("op149999"), absl::Seconds(1));
  int known = 0;
  for (int i = 0; i < 150000; ++i)
    known += statistics_->Mean(absl::StrCat("op", i)) > absl::ZeroDuration();
  EXPECT_LE(known, static_cast<int>(ExecutionStatistics::kSets * ExecutionStatistics::kWays));
  EXPECT_GT(known, 80000);
}

TEST_F(ExecutionStatisticsTest, ADamagedRowIsForgotten) {
  statistics_->Record("op", absl::Seconds(3));
  ASSERT_TRUE(statistics_->Flush().ok());
  std::string key;
  {
    Cursor cursor = database_->Scan(Family::kStatistics, "");
    ASSERT_TRUE(cursor.Valid());
    key = std::string(cursor.key());
  }
  Batch batch;
  batch.Put(Family::kStatistics, key, "\x01torn");
  ASSERT_TRUE(database_->Write(batch).ok());
  Open();
  EXPECT_EQ(statistics_->Mean("op"), absl::ZeroDuration());
  statistics_->Record("op", absl::Seconds(4));
  EXPECT_EQ(statistics_->Mean("op"), absl::Seconds(4));
}

}  // namespace
}  // namespace kiln::store
