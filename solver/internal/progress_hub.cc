#include "solver/internal/progress_hub.h"

#include <algorithm>

#include "absl/time/clock.h"

namespace kiln::solver {
namespace {

using action::Mark;

absl::Time TimeOf(int64_t nanos) {
  return nanos == Interval::kNever ? absl::InfinitePast() : absl::FromUnixNanos(nanos);
}

ProgressEventPtr MakeUpdate(const VertexInfo& info, Interval interval, bool cached,
                            const std::string& error) {
  VertexUpdate update;
  update.digest = info.digest;
  update.inputs.assign(info.inputs.begin(), info.inputs.end());
  update.name = info.name;
  update.progress_group = info.progress_group;
  update.started = TimeOf(interval.started);
  update.completed = TimeOf(interval.completed);
  update.cached = cached;
  update.error = error;
  return std::make_shared<const ProgressEvent>(std::move(update));
}

const std::string& NoError() {
  static const std::string* const none = new std::string();
  return *none;
}

}  // namespace

std::vector<ProgressEventPtr> JobLog::Read(size_t offset, size_t limit, bool* ended) {
  struct Small {
    std::shared_ptr<const VertexInfo> info;
    Interval interval;
    bool cached;
  };
  std::vector<Small> small;
  std::vector<ProgressEventPtr> out;
  {
    // Whoever tells waits for this lock, so the events are made without it.
    MutexLock lock(&mu_);
    const size_t from = std::min(offset, entries_.size());
    const size_t to = from + std::min(limit, entries_.size() - from);
    *ended = ended_ && to == entries_.size();
    small.resize(to - from);
    out.resize(to - from);
    for (size_t i = from; i < to; ++i) {
      const Entry& entry = entries_[i];
      if (entry.what == What::kEvent) {
        out[i - from] = events_[entry.index];
      } else {
        small[i - from] = {seen_[entry.index].info, entry.interval,
                           entry.what == What::kCachedUpdate};
      }
    }
  }
  for (size_t i = 0; i < out.size(); ++i)
    if (out[i] == nullptr)
      out[i] = MakeUpdate(*small[i].info, small[i].interval, small[i].cached, NoError());
  return out;
}

void JobLog::NotifyAt(size_t offset, absl::AnyInvocable<void()> wake) {
  {
    MutexLock lock(&mu_);
    if (!ended_ && entries_.size() <= offset) {
      waiters_.emplace_back(offset, std::move(wake));
      return;
    }
  }
  wake();
}

void JobLog::PushUpdate(uint32_t vertex, Interval interval, bool cached, const std::string& error) {
  if (ended_) return;
  if (!error.empty()) return PushEvent(MakeUpdate(*seen_[vertex].info, interval, cached, error));
  entries_.push_back({interval, vertex, cached ? What::kCachedUpdate : What::kUpdate});
}

void JobLog::PushEvent(ProgressEventPtr event) {
  if (ended_) return;
  entries_.push_back({{}, static_cast<uint32_t>(events_.size()), What::kEvent});
  events_.push_back(std::move(event));
}

JobLog::Wakes JobLog::TakeDue() {
  Wakes due;
  for (size_t i = 0; i < waiters_.size();) {
    if (!ended_ && entries_.size() <= waiters_[i].first) {
      ++i;
      continue;
    }
    due.push_back(std::move(waiters_[i].second));
    waiters_[i] = std::move(waiters_.back());
    waiters_.pop_back();
  }
  return due;
}

void JobLog::Reserve(size_t vertices) {
  MutexLock lock(&mu_);
  index_.reserve(index_.size() + vertices);
}

void JobLog::Prefetch(const Digest& vertex) {
  MutexLock lock(&mu_);
  index_.prefetch(Half(vertex));
}

uint32_t JobLog::Announce(const std::shared_ptr<const VertexInfo>& info) {
  Wakes due;
  uint32_t vertex = 0;
  {
    MutexLock lock(&mu_);
    const auto [it, is_new] = index_.emplace(Half(info->digest), seen_.size());
    vertex = it->second;
    if (!is_new) return vertex;
    Seen& seen = seen_.emplace_back();
    seen.info = info;
    seen.inputs_begin = static_cast<uint32_t>(inputs_.size());
    for (const Digest& input : info->inputs)
      if (const auto known = index_.find(Half(input)); known != index_.end())
        inputs_.push_back(known->second);
    seen.inputs_end = static_cast<uint32_t>(inputs_.size());
    PushUpdate(vertex, {}, false, NoError());
    due = TakeDue();
  }
  for (auto& wake : due) wake();
  return vertex;
}

void JobLog::Tell(uint32_t vertex, Mark mark, Interval interval, const std::string& error) {
  Wakes due;
  {
    MutexLock lock(&mu_);
    if (ended_) return;
    PushUpdate(vertex, interval, mark == Mark::kCached, error);
    Seen& seen = seen_[vertex];
    seen.started = interval.started;
    switch (mark) {
      case Mark::kKeys:
        seen.shown = Shown::kKeys;
        break;
      case Mark::kKeysDone:
        seen.shown = Shown::kKeysDone;
        break;
      case Mark::kStarted:
        seen.shown = Shown::kRunning;
        MarkInputsCached(seen, interval.started);
        break;
      case Mark::kCompleted:
        seen.shown = Shown::kRan;
        break;
      case Mark::kCached:
        seen.shown = Shown::kCached;
        MarkInputsCached(seen, interval.started);
        break;
    }
    due = TakeDue();
  }
  for (auto& wake : due) wake();
}

void JobLog::Append(ProgressEventPtr event) {
  Wakes due;
  {
    MutexLock lock(&mu_);
    PushEvent(std::move(event));
    due = TakeDue();
  }
  for (auto& wake : due) wake();
}

void JobLog::MarkInputsCached(const Seen& starter, int64_t when) {
  absl::InlinedVector<uint32_t, 4> stack;
  const auto push_inputs = [&](const Seen& of) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (uint32_t i = of.inputs_end; i-- > of.inputs_begin;) {
      const uint32_t input = inputs_[i];
      Seen& seen = seen_[input];
      if (seen.shown != Shown::kAnnounced && seen.shown != Shown::kKeysDone) continue;
      seen.shown = Shown::kCached;
      seen.started = when;
      stack.push_back(input);
    }
  };
  push_inputs(starter);
  while (!stack.empty()) {
    const uint32_t vertex = stack.back();
    stack.pop_back();
    PushUpdate(vertex, {when, when}, true, NoError());
    push_inputs(seen_[vertex]);
  }
}

void JobLog::End() {
  Wakes due;
  {
    MutexLock lock(&mu_);
    if (ended_) return;
    const int64_t now = absl::GetCurrentTimeNanos();
    for (uint32_t i = 0; i < seen_.size(); ++i) {
      const Seen& seen = seen_[i];
      if (seen.shown == Shown::kRunning || seen.shown == Shown::kKeys)
        PushUpdate(i, {seen.started, std::max(now, seen.started)}, false, "context canceled");
    }
    ended_ = true;
    due = TakeDue();
  }
  for (auto& wake : due) wake();
}

VertexLog::Words& VertexLog::words() {
  if (words_ == nullptr) words_ = std::make_unique<Words>();
  return *words_;
}

void VertexLog::Subscribe(std::shared_ptr<JobLog> job) {
  MutexLock lock(&mu_);
  const uint32_t vertex = job->Announce(info_);
  for (const Entry& entry : entries_) {
    if (entry.is_event) {
      job->Append(words_->events[static_cast<size_t>(entry.text)]);
    } else {
      job->Tell(vertex, entry.mark, entry.interval,
                entry.text < 0 ? NoError() : words_->errors[static_cast<size_t>(entry.text)]);
    }
  }
  jobs_.push_back({std::move(job), vertex});
}

void VertexLog::Unsubscribe(const JobLog* job) {
  MutexLock lock(&mu_);
  jobs_.erase(std::remove_if(jobs_.begin(), jobs_.end(),
                             [&](const Subscriber& held) { return held.job.get() == job; }),
              jobs_.end());
}

void VertexLog::Tell(Mark mark, absl::Time time, const std::string& error) {
  const int64_t now = absl::ToUnixNanos(time);
  MutexLock lock(&mu_);
  // A vertex may be found cached while its last keys are still computed: that closed the interval.
  if (mark == Mark::kKeysDone && started_ == Interval::kNever && error.empty()) return;
  Interval interval = {now, Interval::kNever};
  switch (mark) {
    case Mark::kKeys:
    case Mark::kStarted:
      started_ = now;
      break;
    case Mark::kKeysDone:
    case Mark::kCompleted:
      if (started_ != Interval::kNever) interval.started = started_;
      interval.completed = std::max(now, interval.started);
      started_ = Interval::kNever;
      break;
    case Mark::kCached:
      interval.completed = now;
      started_ = Interval::kNever;
      break;
  }
  for (const Subscriber& held : jobs_) held.job->Tell(held.vertex, mark, interval, error);
  Entry entry = {interval, -1, false, mark};
  if (!error.empty()) {
    entry.text = static_cast<int32_t>(words().errors.size());
    words_->errors.push_back(error);
  }
  entries_.push_back(entry);
}

ProgressEventPtr VertexLog::AsOwn(const ProgressEvent& event) const {
  ProgressEvent own = event;
  if (auto* status = std::get_if<VertexStatusUpdate>(&own)) status->vertex = info_->digest;
  if (auto* log = std::get_if<VertexLogUpdate>(&own)) log->vertex = info_->digest;
  if (auto* warning = std::get_if<VertexWarningUpdate>(&own)) warning->vertex = info_->digest;
  return std::make_shared<const ProgressEvent>(std::move(own));
}

void VertexLog::AddFollower(std::shared_ptr<VertexLog> follower) {
  MutexLock lock(&mu_);
  for (const ProgressEventPtr& event : words().events) follower->FromOp(follower->AsOwn(*event));
  words_->followers.push_back(std::move(follower));
}

void VertexLog::DropFollowers() {
  MutexLock lock(&mu_);
  words().followers.clear();
}

void VertexLog::FromOp(ProgressEventPtr event) {
  MutexLock lock(&mu_);
  for (const std::shared_ptr<VertexLog>& follower : words().followers)
    follower->FromOp(follower->AsOwn(*event));
  for (const Subscriber& held : jobs_) held.job->Append(event);
  entries_.push_back({{}, static_cast<int32_t>(words_->events.size()), true});
  words_->events.push_back(std::move(event));
}

void VertexLog::Status(StatusUpdate update) {
  FromOp(
      std::make_shared<const ProgressEvent>(VertexStatusUpdate{info_->digest, std::move(update)}));
}

void VertexLog::Log(LogChunk chunk) {
  FromOp(std::make_shared<const ProgressEvent>(VertexLogUpdate{info_->digest, std::move(chunk)}));
}

void VertexLog::Warn(Warning warning) {
  FromOp(std::make_shared<const ProgressEvent>(
      VertexWarningUpdate{info_->digest, std::move(warning)}));
}

void SubscribeAll(const std::vector<std::shared_ptr<VertexLog>>& logs,
                  const std::shared_ptr<JobLog>& job) {
  job->Reserve(logs.size());
  for (size_t i = 0; i < logs.size(); ++i) {
    if (i + kPrefetchAhead < logs.size()) job->Prefetch(logs[i + kPrefetchAhead]->info().digest);
    logs[i]->Subscribe(job);
  }
}

}  // namespace kiln::solver
