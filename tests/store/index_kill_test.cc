// Kills a process in the middle of its work on the index, again and again, and compares what is
// there with what it had reported as done. KILN_KILL_ROUNDS sets the number of kills.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "store/rocks_cache_index.h"
#include "tests/store/index_integrity.h"
#include "tests/store/run_and_kill.h"
#include "tests/store/temp_dir.h"

namespace kiln::store {
namespace {

int Rounds() {
  const char* text = std::getenv("KILN_KILL_ROUNDS");
  return text == nullptr ? 20 : std::atoi(text);
}

class IndexKillTest : public testing::Test {
 protected:
  void TakeOver(const std::string& said) {
    std::vector<std::string> lines = absl::StrSplit(said, '\n');
    lines.pop_back();  // empty, or a line that was cut
    for (const std::string& line : lines) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      if (words[0] == "s") {
        live_[words[1]] = *Digest::Parse(words[2]);
        ++reported_;
      } else {
        // Between "r" and "d" either answer is right.
        live_.erase(words[1]);
        if (words[0] == "d") gone_.push_back(words[1]);
      }
    }
  }

  void Compare() {
    DatabaseOptions options;
    options.path = dir_.path() + "/index";
    options.boot_id = "boot";
    auto database = Database::Open(options);
    ASSERT_TRUE(database.ok()) << database.status();
    RocksCacheIndex index(database->get());
    const absl::Status sound = CheckIndexIntegrity(**database);
    ASSERT_TRUE(sound.ok()) << sound;
    for (const auto& [result, key] : live_) {
      auto records = index.Records(key);
      ASSERT_TRUE(records.ok()) << records.status();
      bool found = false;
      for (const CacheRecord& record : *records) found = found || record.result_id == result;
      ASSERT_TRUE(found) << result << " was reported as saved under " << key.ToString();
    }
    auto all = index.Results("", 1 << 30);
    ASSERT_TRUE(all.ok()) << all.status();
    for (const std::string& result : gone_)
      ASSERT_FALSE(std::binary_search(all->begin(), all->end(), result)) << result;
  }

  TempDir dir_;
  std::map<std::string, KeyId> live_;
  std::vector<std::string> gone_;
  size_t reported_ = 0;
};

TEST_F(IndexKillTest, NothingReportedIsLostAndNothingIsTorn) {
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  for (int round = 0; round < Rounds(); ++round) {
    SCOPED_TRACE(absl::StrCat("seed ", seed, " round ", round));
    // Opening the index is killed in its middle, too.
    TakeOver(RunAndKill({KILN_INDEX_WRITER, dir_.path() + "/index", absl::StrCat(seed, "-", round)},
                        absl::Milliseconds(random() % 250),
                        round % 2 == 0 ? LifeFrom::kFirstWord : LifeFrom::kStart));
    ASSERT_FALSE(HasFailure());
    ASSERT_NO_FATAL_FAILURE(Compare());
  }
  EXPECT_GT(reported_, 0u);
  RecordProperty("reported", static_cast<int>(reported_));
}

}  // namespace
}  // namespace kiln::store
