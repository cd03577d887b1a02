#include "client/progress/model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kiln::client {
namespace {

// What terminals of old do with '\r': what follows replaces the line.
std::string LastOverwrite(absl::string_view line) {
  while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const size_t at = line.rfind('\r');
  return std::string(at == absl::string_view::npos ? line : line.substr(at + 1));
}

}  // namespace

absl::Duration Step::Elapsed(absl::Time now) const {
  if (!started) return before;
  return before + std::max(absl::ZeroDuration(), completed.value_or(now) - *started);
}

std::vector<Step*> ProgressModel::Apply(const ProgressUpdate& update) {
  std::vector<Step*> changed;
  const auto touch = [&changed](Entry* entry) {
    if (std::find(changed.begin(), changed.end(), &entry->step) == changed.end()) {
      changed.push_back(&entry->step);
    }
  };
  for (const VertexEvent& event : update.vertices) {
    Entry* entry = FindOrAdd(event);
    ApplyVertex(event, entry);
    touch(entry);
  }
  const auto find = [this](const std::string& digest) -> Entry* {
    const auto found = by_digest_.find(digest);
    return found == by_digest_.end() ? nullptr : found->second;
  };
  for (const StatusEvent& event : update.statuses) {
    Entry* entry = find(event.vertex);
    if (entry == nullptr || !event.started) continue;
    std::vector<Step::Part>& parts = entry->step.parts;
    const auto part = std::find_if(parts.begin(), parts.end(), [&](const Step::Part& p) {
      return p.event.id == event.id && p.event.vertex == event.vertex;
    });
    if (part == parts.end()) {
      parts.push_back({event, true});
    } else {
      *part = {event, true};
    }
    touch(entry);
  }
  for (const WarningEvent& event : update.warnings) {
    Entry* entry = find(event.vertex);
    if (entry == nullptr) continue;
    entry->step.warnings.push_back(event);
    warnings_.push_back(event);
    touch(entry);
  }
  for (const LogEvent& event : update.logs) {
    Entry* entry = find(event.vertex);
    if (entry == nullptr) continue;
    ApplyLog(event, entry);
    touch(entry);
  }
  return changed;
}

ProgressModel::Entry* ProgressModel::FindOrAdd(const VertexEvent& event) {
  if (const auto found = by_digest_.find(event.digest); found != by_digest_.end()) {
    return found->second;
  }
  if (event.group) {
    Entry*& entry = by_group_[event.group->id];
    if (entry == nullptr) {
      steps_.push_back(std::make_unique<Entry>());
      entry = steps_.back().get();
      entry->group = true;
      entry->step.name = event.group->name;
    }
    return by_digest_[event.digest] = entry;
  }
  steps_.push_back(std::make_unique<Entry>());
  return by_digest_[event.digest] = steps_.back().get();
}

void ProgressModel::ApplyVertex(const VertexEvent& event, Entry* entry) {
  auto member = std::find_if(entry->members.begin(), entry->members.end(),
                             [&](const Member& m) { return m.event.digest == event.digest; });
  if (member == entry->members.end()) {
    entry->members.push_back({event, event.group && event.group->weak});
    member = entry->members.end() - 1;
    if (!entry->group) entry->step.name = event.name;
  } else {
    // A later start is another run; an event without one only repeats the announcement.
    const std::optional<absl::Time> was = member->event.started;
    if (was && !event.started) return;
    if (was && *event.started > *was && member->event.completed) {
      entry->step.before += *member->event.completed - *was;
    }
    if (was && *event.started < *was) return;
    member->event = event;
  }
  if (event.started && !clock_known_) {
    clock_known_ = true;
    clock_offset_ = *event.started - absl::Now();
  }
  Refresh(entry);
}

// The step's state from its members': a group runs while any runs, is cached when all are.
void ProgressModel::Refresh(Entry* entry) {
  Step& step = entry->step;
  bool visible = !entry->group, all_cached = true, running = false;
  std::optional<absl::Time> started, completed;
  step.error.clear();
  for (const Member& member : entry->members) {
    const VertexEvent& event = member.event;
    if (!event.started) continue;
    visible |= !member.weak;
    if (!started || (entry->group ? *event.started < *started : true)) started = event.started;
    if (!event.completed) {
      running = true;
    } else if (!completed || *event.completed > *completed) {
      completed = event.completed;
    }
    all_cached &= event.cached;
    if (!event.error.empty() && step.error.empty()) step.error = event.error;
  }
  if (!started || !visible) return;
  step.started = started;
  step.completed = running ? std::nullopt : completed;
  if (running) {
    step.state = Step::State::kRunning;
  } else if (!step.error.empty()) {
    const bool canceled = absl::EndsWith(step.error, "context canceled");
    step.state = canceled ? Step::State::kCanceled : Step::State::kFailed;
  } else {
    step.state = all_cached ? Step::State::kCached : Step::State::kDone;
  }
  if (!running && !entry->partial.empty()) {  // what came without a line end is a line too
    LogEvent rest;
    rest.data = "\n";
    rest.timestamp = step.completed.value_or(*step.started);
    ApplyLog(rest, entry);
  }
  if (step.number == 0) {
    started_.push_back(&step);
    step.number = static_cast<int>(started_.size());
  }
}

void ProgressModel::ApplyLog(const LogEvent& event, Entry* entry) {
  Step& step = entry->step;
  const double seconds =
      step.started ? std::max(0.0, absl::ToDoubleSeconds(event.timestamp - *step.started)) : 0;
  entry->partial += event.data;
  size_t begin = 0;
  for (size_t end; (end = entry->partial.find('\n', begin)) != std::string::npos; begin = end + 1) {
    std::string line = LastOverwrite(absl::string_view(entry->partial).substr(begin, end - begin));
    step.tail.push_back(line);
    if (step.tail.size() > kTailLines) step.tail.pop_front();
    step.new_lines.push_back({seconds, std::move(line)});
    ++step.lines_total;
  }
  entry->partial.erase(0, begin);
}

StepCounts ProgressModel::Counts() const {
  StepCounts counts;
  for (const Step* step : started_) {
    ++counts.total;
    if (step->state == Step::State::kCached) ++counts.cached;
    if (step->state == Step::State::kDone) ++counts.run;
    if (step->state == Step::State::kFailed) ++counts.failed;
    if (step->state == Step::State::kCanceled) ++counts.canceled;
  }
  return counts;
}

}  // namespace kiln::client
