// The disk fails while the index is written: every failure is reported, nothing that was reported
// as done is lost, and the index is sound afterwards.
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/rocks_cache_index.h"
#include "tests/store/faulty_env.h"
#include "tests/store/index_integrity.h"
#include "tests/store/temp_dir.h"

namespace kiln::store {
namespace {

class IndexFaultTest : public testing::Test {
 protected:
  IndexFaultTest() : env_(NewFaultyEnv(&plan_)) {}

  absl::Status Open() {
    index_.reset();
    database_.reset();
    DatabaseOptions options;
    options.path = dir_.path() + "/index";
    options.boot_id = "boot";
    options.env = env_.get();
    auto database = Database::Open(options);
    if (!database.ok()) return database.status();
    database_ = *std::move(database);
    index_ = std::make_unique<RocksCacheIndex>(database_.get());
    return absl::OkStatus();
  }

  // Saves and releases; remembers what was reported as done. Returns the first failure.
  absl::Status Work(int steps) {
    absl::Status first;
    for (int i = 0; i < steps; ++i) {
      const std::string result = absl::StrCat("w::", next_++);
      const std::vector<std::vector<InputKey>> inputs = {
          {{Digest::Of(absl::StrCat(next_ % 7)), ""}, {Digest::Of(absl::StrCat(next_ % 5)), "s"}}};
      auto key = index_->Save({absl::StrCat("op ", next_ % 11), 0}, inputs,
                              {result, absl::FromUnixSeconds(next_), 0});
      if (key.ok()) {
        saved_[result] = *key;
      } else {
        first.Update(key.status());
      }
      if (next_ % 4 == 0 && !saved_.empty()) {
        const std::string victim = saved_.begin()->first;
        const absl::Status released = index_->Release(victim);
        saved_.erase(victim);  // after a failure either answer is right
        first.Update(released);
      }
      if (next_ % 10 == 0) first.Update(database_->Barrier());
    }
    return first;
  }

  void Mend() {
    plan_.failing = false;
    plan_.writes_left = INT64_MAX;
  }

  void ExpectSound() {
    const absl::Status sound = CheckIndexIntegrity(*database_);
    ASSERT_TRUE(sound.ok()) << sound;
    for (const auto& [result, key] : saved_) {
      auto records = index_->Records(key);
      ASSERT_TRUE(records.ok()) << records.status();
      std::vector<std::string> ids;
      for (const CacheRecord& record : *records) ids.push_back(record.result_id);
      ASSERT_THAT(ids, testing::Contains(result));
    }
  }

  FaultPlan plan_;
  std::unique_ptr<rocksdb::Env> env_;
  TempDir dir_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<RocksCacheIndex> index_;
  std::map<std::string, KeyId> saved_;
  int next_ = 0;
};

TEST_F(IndexFaultTest, AFullDiskIsSaidAndWritingGoesOnOnceThereIsRoom) {
  for (const bool torn : {false, true}) {
    plan_.torn = torn;
    ASSERT_TRUE(Open().ok());
    for (int writes = 0; writes < 40; writes += 7) {
      SCOPED_TRACE(absl::StrCat(torn ? "torn, " : "", "full after ", writes, " writes"));
      plan_.writes_left = writes;
      const absl::Status full = Work(60);
      ASSERT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
      EXPECT_THAT(std::string(full.message()), testing::HasSubstr("disk full"));
      ASSERT_NO_FATAL_FAILURE(ExpectSound());  // look-ups go on
      Mend();
      const absl::Status mended = Work(20);
      ASSERT_TRUE(mended.ok()) << mended;
      ASSERT_NO_FATAL_FAILURE(ExpectSound());
    }
    ASSERT_TRUE(Open().ok());
    ASSERT_NO_FATAL_FAILURE(ExpectSound());
  }
}

TEST_F(IndexFaultTest, AfterAnIoErrorTheIndexIsSoundWhenOpenedAgain) {
  plan_.kind = FaultPlan::Kind::kIoError;
  for (const bool torn : {false, true}) {
    plan_.torn = torn;
    for (int writes = 0; writes < 40; writes += 9) {
      SCOPED_TRACE(absl::StrCat(torn ? "torn, " : "", "failing after ", writes, " writes"));
      Mend();
      ASSERT_TRUE(Open().ok());
      plan_.writes_left = writes;
      const absl::Status failed = Work(60);
      ASSERT_EQ(failed.code(), absl::StatusCode::kUnavailable) << failed;
      EXPECT_THAT(std::string(failed.message()), testing::HasSubstr("i/o error"));
      ASSERT_NO_FATAL_FAILURE(ExpectSound());
      Mend();
      const absl::Status reopened = Open();
      ASSERT_TRUE(reopened.ok()) << reopened;
      ASSERT_NO_FATAL_FAILURE(ExpectSound());
      const absl::Status mended = Work(10);
      ASSERT_TRUE(mended.ok()) << mended;
    }
  }
}

TEST_F(IndexFaultTest, AFailingFirstStartIsRepeated) {
  for (int writes = 0; writes < 60; writes += 5) {
    SCOPED_TRACE(writes);
    plan_.writes_left = writes;
    const absl::Status opened = Open();
    if (!opened.ok()) {
      EXPECT_EQ(opened.code(), absl::StatusCode::kResourceExhausted) << opened;
    }
    Mend();
    const absl::Status again = Open();
    ASSERT_TRUE(again.ok()) << again;
    ASSERT_TRUE(Work(5).ok());
    ASSERT_NO_FATAL_FAILURE(ExpectSound());
    index_.reset();
    database_.reset();
    std::filesystem::remove_all(dir_.path() + "/index");
    saved_.clear();
  }
}

}  // namespace
}  // namespace kiln::store
