#include "client/progress/tty_display.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/progress/failed_steps.h"
#include "client/progress/text.h"

namespace kiln::client {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr int kLogTail = 6;  // lines of output under a running step

constexpr char kHideCursor[] = "\x1b[?25l";
constexpr char kShowCursor[] = "\x1b[?25h";
// Without wrapping, a line drawn for an old width stays one row: multiplexers shrink the screen a
// moment before they tell the program.
constexpr char kWrapOff[] = "\x1b[?7l";
constexpr char kWrapOn[] = "\x1b[?7h";
constexpr char kEraseLine[] = "\x1b[K";   // from the cursor to the line's end
constexpr char kEraseBelow[] = "\x1b[J";  // from the cursor to the screen's end

const char* Color(Step::State state) {
  switch (state) {
    case Step::State::kFailed:
      return "\x1b[31m";
    case Step::State::kCanceled:
      return "\x1b[33m";
    case Step::State::kDone:
    case Step::State::kCached:
      return "\x1b[34m";
    case Step::State::kWaiting:
    case Step::State::kRunning:
      break;
  }
  return "";
}

// The time stands before the text: a line is no longer than it must be, so that few are wrapped
// when the terminal becomes narrower, and the frame is not pushed off its top.
std::string TimedLine(absl::string_view lead, absl::Duration time, absl::string_view text,
                      int columns) {
  return ToDisplay(absl::StrFormat("%s%7s %s", lead, FormatSeconds(time), text), columns);
}

}  // namespace

TtyDisplay::TtyDisplay(DisplayOutput output) : output_(std::move(output)), begin_(output_.now()) {
  output_.write(kHideCursor);
  if (output_.own_thread) ticker_ = std::make_unique<Ticker>(kTick, [this] { Tick(); });
}

TtyDisplay::~TtyDisplay() {
  ticker_.reset();
  MutexLock lock(&mu_);
  if (!finished_) output_.write(kShowCursor);
}

void TtyDisplay::OnUpdate(const ProgressUpdate& update) {
  MutexLock lock(&mu_);
  for (Step* step : model_.Apply(update)) {
    step->new_lines.clear();  // the tail is what a frame shows
    step->warnings.clear();
  }
}

void TtyDisplay::Tick() {
  MutexLock lock(&mu_);
  if (!finished_) Draw();
}

void TtyDisplay::Finish(const absl::Status& outcome) {
  ticker_.reset();
  MutexLock lock(&mu_);
  finished_ = true;
  // The whole list stays in the terminal's history, above what comes next.
  std::string out = absl::StrCat(kWrapOff, "\r");
  for (const std::string& line : Frame(output_.size(), true)) {
    absl::StrAppend(&out, line, kEraseLine, "\n");
  }
  absl::StrAppend(&out, kEraseBelow, kWrapOn, kShowCursor);
  absl::StrAppend(&out, DescribeWarnings(model_));
  if (!outcome.ok()) absl::StrAppend(&out, DescribeFailedSteps(model_, kTtyFailureLines));
  output_.write(out);
}

std::string TtyDisplay::Header(int columns, absl::Time now) const {
  const StepCounts counts = model_.Counts();
  const int ended =
      counts.total == 0 ? 0 : counts.cached + counts.run + counts.failed + counts.canceled;
  std::string text = absl::StrFormat("[+] Building %s (%d/%d)", FormatSeconds(now - begin_), ended,
                                     std::max(model_.announced(), counts.total));
  if (counts.cached > 0) absl::StrAppend(&text, "  ", counts.cached, " cached");
  if (finished_) absl::StrAppend(&text, counts.failed > 0 ? " FAILED" : " FINISHED");
  return ToDisplay(text, columns);
}

std::string TtyDisplay::StepLine(const Step& step, int columns, absl::Time now) const {
  const char* mark = step.state == Step::State::kCached     ? "CACHED "
                     : step.state == Step::State::kFailed   ? "ERROR "
                     : step.state == Step::State::kCanceled ? "CANCELED "
                                                            : "";
  const std::string line =
      TimedLine(" =>", step.Elapsed(model_.DaemonNow(now)), absl::StrCat(mark, step.name), columns);
  const char* color = output_.color ? Color(step.state) : "";
  return *color == '\0' ? line : absl::StrCat(color, line, "\x1b[0m");
}

// Running steps come first when there is too little room; finished ones fill what is left.
std::vector<std::string> TtyDisplay::Frame(const TerminalSize& size, bool all) {
  const int columns = std::max(1, size.columns - 1);
  const int rows = all ? 1 << 20 : std::max(1, size.rows - 1);
  const absl::Time now = output_.now();
  std::vector<std::vector<std::string>> blocks;  // one per step, in order
  std::vector<bool> running;
  for (const Step* step : model_.started()) {
    std::vector<std::string> block = {StepLine(*step, columns, now)};
    const bool open = step->state == Step::State::kRunning;
    for (const Step::Part& part : step->parts) {
      if (!open && !all) break;
      if (part.event.completed && !all) continue;
      const absl::Time end = part.event.completed.value_or(model_.DaemonNow(now));
      StatusEvent untimed = part.event;
      untimed.started.reset();  // the time has its own column
      block.push_back(TimedLine(" => =>", end - *part.event.started, PartText(untimed), columns));
    }
    if (open && !all) {
      const size_t tail = std::min<size_t>(kLogTail, step->tail.size());
      for (size_t i = step->tail.size() - tail; i < step->tail.size(); ++i) {
        block.push_back(ToDisplay(absl::StrCat(" => => # ", step->tail[i]), columns));
      }
    }
    blocks.push_back(std::move(block));
    running.push_back(open);
  }
  int room = rows - 1;
  std::vector<int> shown(blocks.size(), 0);
  for (const bool wanted : {true, false}) {  // from the newest
    for (size_t i = blocks.size(); i-- > 0 && room > 0;) {
      if (running[i] != wanted || shown[i] > 0) continue;
      // Every running step gets its line before any gets its output.
      shown[i] = 1;
      --room;
    }
  }
  for (size_t i = blocks.size(); i-- > 0 && room > 0;) {
    if (shown[i] == 0) continue;
    const int more = std::min<int>(room, static_cast<int>(blocks[i].size()) - shown[i]);
    shown[i] += more;
    room -= more;
  }
  std::vector<std::string> lines = {Header(columns, now)};
  for (size_t i = 0; i < blocks.size(); ++i) {
    // Of cut output the latest lines are kept.
    const size_t cut = blocks[i].size() - shown[i];
    for (size_t line = 0; line < blocks[i].size() && shown[i] > 0; ++line) {
      if (line == 0 || line > cut) lines.push_back(blocks[i][line]);
    }
  }
  return lines;
}

void TtyDisplay::Draw() {
  const TerminalSize size = output_.size();
  const std::vector<std::string> lines = Frame(size, false);
  std::string frame = absl::StrJoin(lines, absl::StrCat(kEraseLine, "\n"));
  absl::StrAppend(&frame, kEraseLine, kEraseBelow);
  const std::string key = absl::StrCat(size.columns, "x", size.rows, "\n", frame);
  if (key == last_frame_) return;
  last_frame_ = key;
  std::string out = absl::StrCat(kWrapOff, "\r", frame);
  if (lines.size() > 1) absl::StrAppend(&out, "\x1b[", lines.size() - 1, "A");
  absl::StrAppend(&out, "\r", kWrapOn);
  output_.write(out);
}

}  // namespace kiln::client
