// Kills a process in the middle of its work on the index, again and again, and compares what is
// there with what it had reported as done. KILN_KILL_ROUNDS sets the number of kills.
#include <fcntl.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "store/base/fd.h"
#include "store/base/process.h"
#include "store/rocks_cache_index.h"
#include "tests/store/index_integrity.h"
#include "tests/store/temp_dir.h"

namespace kiln::store {
namespace {

int Rounds() {
  const char* text = std::getenv("KILN_KILL_ROUNDS");
  return text == nullptr ? 20 : std::atoi(text);
}

class IndexKillTest : public testing::Test {
 protected:
  // Runs the writer for a while, kills it, and takes over what it said.
  void RunAndKill(const std::string& name, absl::Duration life) {
    const std::string said = dir_.path() + "/said";
    auto out = OpenFile(said, O_WRONLY | O_CREAT | O_TRUNC);
    auto errors = OpenFile(dir_.path() + "/errors", O_WRONLY | O_CREAT | O_TRUNC);
    ASSERT_TRUE(out.ok() && errors.ok());
    ProcessOptions options;
    options.args = {KILN_INDEX_WRITER, dir_.path() + "/index", name};
    options.stdout_fd = out->get();
    options.stderr_fd = errors->get();
    auto process = Process::Start(options);
    ASSERT_TRUE(process.ok()) << process.status();
    absl::SleepFor(life);
    process->Kill();
    auto status = process->Wait(CancelToken());
    ASSERT_TRUE(status.ok()) << status.status();
    ASSERT_EQ(status->signal, SIGKILL)
        << status->ToString() << ": " << ReadFileToString(dir_.path() + "/errors").value_or("");
    TakeOver(ReadFileToString(said).value_or(""));
  }

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
    ASSERT_NO_FATAL_FAILURE(
        RunAndKill(absl::StrCat(seed, "-", round), absl::Milliseconds(random() % 250)));
    ASSERT_NO_FATAL_FAILURE(Compare());
  }
  EXPECT_GT(reported_, 0u) << "no kill came late enough for the writer to do anything";
  RecordProperty("reported", static_cast<int>(reported_));
}

}  // namespace
}  // namespace kiln::store
