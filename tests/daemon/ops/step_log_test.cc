#include "daemon/ops/step_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace kiln::daemon {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

class Sink : public solver::ProgressSink {
 public:
  void Status(solver::StatusUpdate) override {}
  void Log(solver::LogChunk chunk) override {
    (chunk.stream == 2 ? err : out) += chunk.data;
    ++chunks;
  }
  void Warn(solver::Warning) override {}
  std::string out, err;
  int chunks = 0;
};

class StepLogTest : public testing::Test {
 protected:
  StepLog Make(LogLimits limits) {
    return StepLog(&sink_, limits, [this] { return now_; });
  }
  Sink sink_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

TEST_F(StepLogTest, StreamsStayApart) {
  StepLog log = Make({});
  log.Write(1, "a");
  log.Write(2, "b");
  log.Write(1, "c");
  EXPECT_EQ(sink_.out, "ac");
  EXPECT_EQ(sink_.err, "b");
}

TEST_F(StepLogTest, ClipsAtTheSizeAndSaysSoOnce) {
  StepLog log = Make({.max_bytes = 10, .max_bytes_per_second = -1});
  log.Write(1, "0123456");
  log.Write(1, "789abc");
  log.Write(1, "more");
  EXPECT_EQ(sink_.out, "0123456789\n[output clipped, log limit 10B reached]\n");
  log.Write(2, "its own limit");
  EXPECT_THAT(sink_.err, HasSubstr("its own li"));
}

TEST_F(StepLogTest, KeepsTheTailForAFailure) {
  StepLog log = Make({.max_bytes = 4, .max_bytes_per_second = -1});
  log.Write(1, "head");
  log.Write(1, std::string(1 << 20, 'x'));
  log.Write(1, "the reason\n");
  log.FlushWithheld();
  EXPECT_THAT(sink_.out, EndsWith("xxthe reason\n"));
  const size_t before = sink_.out.size();
  EXPECT_LT(before, size_t{300} << 10);
  log.FlushWithheld();
  EXPECT_EQ(sink_.out.size(), before);
}

TEST_F(StepLogTest, SpeedLimitEndsWithTime) {
  StepLog log = Make({.max_bytes = -1, .max_bytes_per_second = 10 << 10});
  log.Write(1, std::string(11 << 10, 'x'));
  EXPECT_THAT(sink_.out, EndsWith("\n[output clipped, log limit 10KiB/s reached]\n"));
  now_ += absl::Seconds(5);
  log.Write(1, "again");
  EXPECT_THAT(sink_.out, EndsWith("again"));
}

TEST_F(StepLogTest, DefaultsAreTwoMebibytes) {
  StepLog log = Make({});
  now_ += absl::Hours(1);
  log.Write(1, std::string(3 << 20, 'x'));
  EXPECT_THAT(sink_.out, EndsWith("[output clipped, log limit 2MiB reached]\n"));
}

TEST_F(StepLogTest, MinusOneIsUnlimited) {
  ::setenv("BUILDKIT_STEP_LOG_MAX_SIZE", "-1", 1);
  ::setenv("BUILDKIT_STEP_LOG_MAX_SPEED", "-1", 1);
  StepLog log = Make(LogLimits::FromEnvironment());
  ::unsetenv("BUILDKIT_STEP_LOG_MAX_SIZE");
  ::unsetenv("BUILDKIT_STEP_LOG_MAX_SPEED");
  log.Write(1, std::string(5 << 20, 'x'));
  EXPECT_EQ(sink_.out.size(), size_t{5} << 20);
}

}  // namespace
}  // namespace kiln::daemon
