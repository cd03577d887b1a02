#include "daemon/ops/step_log.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace kiln::daemon {
namespace {

constexpr size_t kTailBytes = 256 << 10;

int64_t FromEnvironmentOr(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  int64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

std::string Size(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return absl::StrFormat("%g%s", value, kUnits[unit]);
}

}  // namespace

LogLimits LogLimits::FromEnvironment() {
  LogLimits limits;
  limits.max_bytes = FromEnvironmentOr("BUILDKIT_STEP_LOG_MAX_SIZE", limits.max_bytes);
  limits.max_bytes_per_second =
      FromEnvironmentOr("BUILDKIT_STEP_LOG_MAX_SPEED", limits.max_bytes_per_second);
  return limits;
}

StepLog::StepLog(solver::ProgressSink* sink, LogLimits limits, std::function<absl::Time()> now)
    : sink_(sink), limits_(limits), now_(std::move(now)), started_(now_()) {}

// How much of the stream may have passed by now; -1: everything.
int64_t StepLog::Allowance(bool* by_speed) const {
  *by_speed = false;
  int64_t allowed = -1;
  if (limits_.max_bytes_per_second >= 0) {
    const double seconds = std::max(1.0, std::ceil(absl::ToDoubleSeconds(now_() - started_)));
    const double bytes = seconds * static_cast<double>(limits_.max_bytes_per_second);
    allowed = bytes > 1e18 ? int64_t{1} << 60 : static_cast<int64_t>(bytes);
    *by_speed = true;
  }
  if (limits_.max_bytes >= 0 && (allowed < 0 || allowed > limits_.max_bytes)) {
    allowed = limits_.max_bytes;
    *by_speed = false;
  }
  return allowed;
}

void StepLog::Write(int stream, absl::string_view data) {
  std::string passed;
  {
    MutexLock lock(&mu_);
    Stream& s = streams_[stream == 2 ? 1 : 0];
    bool by_speed = false;
    const int64_t allowed = Allowance(&by_speed);
    size_t take = data.size();
    if (allowed >= 0)
      take = static_cast<size_t>(
          std::clamp<int64_t>(allowed - s.seen, 0, static_cast<int64_t>(data.size())));
    s.seen += static_cast<int64_t>(data.size());
    passed = std::string(data.substr(0, take));
    if (take < data.size()) {
      absl::StrAppend(&s.tail, data.substr(take));
      if (s.tail.size() > 2 * kTailBytes) s.tail.erase(0, s.tail.size() - kTailBytes);
      if (!s.withholding)
        absl::StrAppend(&passed, "\n[output clipped, log limit ",
                        by_speed ? absl::StrCat(Size(limits_.max_bytes_per_second), "/s")
                                 : Size(limits_.max_bytes),
                        " reached]\n");
      s.withholding = true;
    } else {
      s.withholding = false;
    }
  }
  Send(stream, std::move(passed));
}

void StepLog::FlushWithheld() {
  for (int stream : {1, 2}) {
    std::string tail;
    {
      MutexLock lock(&mu_);
      tail = std::exchange(streams_[stream - 1].tail, {});
    }
    if (tail.size() > kTailBytes) tail.erase(0, tail.size() - kTailBytes);
    Send(stream, std::move(tail));
  }
}

void StepLog::Send(int stream, std::string data) {
  if (data.empty()) return;
  solver::LogChunk chunk;
  chunk.stream = stream;
  chunk.data = std::move(data);
  chunk.timestamp = now_();
  sink_->Log(std::move(chunk));
}

}  // namespace kiln::daemon
