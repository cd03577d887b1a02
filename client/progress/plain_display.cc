#include "client/progress/plain_display.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/progress/failed_steps.h"
#include "client/progress/text.h"

namespace kiln::client {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);
// A silent step keeps the word this long while others wait, a talking one this long.
constexpr absl::Duration kSilence = absl::Milliseconds(300);
constexpr absl::Duration kLongestWait = absl::Seconds(3);

// Five characters, as BuildKit: "0.123", "12.34".
std::string LineTime(double seconds) { return absl::StrFormat("%.3f", seconds).substr(0, 5); }

}  // namespace

PlainDisplay::PlainDisplay(DisplayOutput output) : output_(std::move(output)) {
  if (output_.own_thread) ticker_ = std::make_unique<Ticker>(kTick, [this] { Tick(); });
}

PlainDisplay::~PlainDisplay() = default;

void PlainDisplay::OnUpdate(const ProgressUpdate& update) {
  MutexLock lock(&mu_);
  const absl::Time now = output_.now();
  for (Step* step : model_.Apply(update)) {
    Pending& pending = PendingOf(step);
    if (!step->ended()) pending.closed = false;
    pending.since = std::min(pending.since, now);
  }
  Print(false);
}

void PlainDisplay::Tick() {
  MutexLock lock(&mu_);
  Print(false);
}

void PlainDisplay::Finish(const absl::Status& outcome) {
  ticker_.reset();
  MutexLock lock(&mu_);
  Print(true);
  if (!outcome.ok()) output_.write(DescribeFailedSteps(model_, kPlainFailureLines));
}

PlainDisplay::Pending& PlainDisplay::PendingOf(const Step* step) { return pending_[step]; }

bool PlainDisplay::HasNews(const Step& step) const {
  if (step.number == 0) return false;
  const auto pending = pending_.find(&step);
  if (pending == pending_.end()) return false;
  if (!pending->second.announced || !step.new_lines.empty() || !step.warnings.empty()) return true;
  if (step.ended() && !pending->second.closed) return true;
  return std::any_of(step.parts.begin(), step.parts.end(),
                     [](const Step::Part& part) { return part.changed; });
}

// The step to print next, or null when it is nobody's turn yet.
Step* PlainDisplay::Choose(bool finishing, absl::Time now) {
  if (current_ != nullptr && HasNews(*current_)) {
    const bool long_enough =
        std::any_of(model_.started().begin(), model_.started().end(), [&](Step* step) {
          return step != current_ && HasNews(*step) && now - PendingOf(step).since > kLongestWait;
        });
    if (!long_enough || finishing) return current_;
  }
  Step* best = nullptr;
  for (Step* step : model_.started()) {
    if (step == current_ || !HasNews(*step)) continue;
    const bool better =
        best == nullptr || (step->ended() && !best->ended()) ||
        (step->ended() == best->ended() && PendingOf(step).since < PendingOf(best).since);
    if (better) best = step;
  }
  if (best == nullptr || current_ == nullptr || finishing) return best;
  if (now - current_last_ >= kSilence || now - PendingOf(best).since > kLongestWait) return best;
  return nullptr;
}

void PlainDisplay::Print(bool finishing) {
  const absl::Time now = output_.now();
  while (Step* step = Choose(finishing, now)) {
    if (step != current_) {
      if (current_ != nullptr) absl::StrAppend(&out_, "#", current_->number, " ...\n\n");
      absl::StrAppend(&out_, "#", step->number, " ", ToDisplay(step->name, 4096), "\n");
      current_ = step;
    }
    PrintStep(step);
    current_last_ = now;
    PendingOf(step) = {absl::InfiniteFuture(), true, step->ended()};
    if (step->ended()) {
      absl::StrAppend(&out_, "\n");
      current_ = nullptr;
    }
  }
  if (!out_.empty()) output_.write(out_);
  out_.clear();
}

void PlainDisplay::PrintStep(Step* step) {
  const std::string prefix = absl::StrCat("#", step->number, " ");
  for (Step::Part& part : step->parts) {
    if (!part.changed) continue;
    absl::StrAppend(&out_, prefix, PartText(part.event), "\n");
    part.changed = false;
  }
  for (const WarningEvent& warning : step->warnings) {
    absl::StrAppend(&out_, prefix, "WARN: ", warning.short_text, "\n");
  }
  step->warnings.clear();
  for (const Step::LogLine& line : step->new_lines) {
    absl::StrAppend(&out_, prefix, LineTime(line.seconds), " ", line.text, "\n");
  }
  step->new_lines.clear();
  switch (step->state) {
    case Step::State::kDone:
      absl::StrAppend(&out_, prefix, "DONE ", FormatSeconds(step->Elapsed(output_.now())), "\n");
      break;
    case Step::State::kCached:
      absl::StrAppend(&out_, prefix, "CACHED\n");
      break;
    case Step::State::kCanceled:
      absl::StrAppend(&out_, prefix, "CANCELED\n");
      break;
    case Step::State::kFailed:
      absl::StrAppend(&out_, prefix, "ERROR: ", step->error, "\n");
      break;
    case Step::State::kWaiting:
    case Step::State::kRunning:
      break;
  }
}

}  // namespace kiln::client
