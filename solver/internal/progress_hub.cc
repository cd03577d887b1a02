#include "solver/internal/progress_hub.h"

#include <algorithm>

#include "absl/time/clock.h"

namespace kiln::solver {

using action::Mark;

std::vector<ProgressEventPtr> JobLog::Read(size_t offset, size_t limit, bool* ended) {
  MutexLock lock(&mu_);
  const size_t from = std::min(offset, events_.size());
  const size_t to = from + std::min(limit, events_.size() - from);
  *ended = ended_ && to == events_.size();
  return {events_.begin() + static_cast<ptrdiff_t>(from),
          events_.begin() + static_cast<ptrdiff_t>(to)};
}

void JobLog::NotifyAt(size_t offset, absl::AnyInvocable<void()> wake) {
  {
    MutexLock lock(&mu_);
    if (!ended_ && events_.size() <= offset) {
      waiters_.emplace_back(offset, std::move(wake));
      return;
    }
  }
  wake();
}

void JobLog::Push(ProgressEventPtr event) {
  if (!ended_) events_.push_back(std::move(event));
}

std::vector<absl::AnyInvocable<void()>> JobLog::TakeDue() {
  std::vector<absl::AnyInvocable<void()>> due;
  for (size_t i = 0; i < waiters_.size();) {
    if (!ended_ && events_.size() <= waiters_[i].first) {
      ++i;
      continue;
    }
    due.push_back(std::move(waiters_[i].second));
    waiters_[i] = std::move(waiters_.back());
    waiters_.pop_back();
  }
  return due;
}

void JobLog::Announce(const ProgressEventPtr& event) {
  std::vector<absl::AnyInvocable<void()>> due;
  {
    MutexLock lock(&mu_);
    const auto& update = std::get<VertexUpdate>(*event);
    if (!index_.emplace(update.digest, seen_.size()).second) return;
    seen_.push_back({event});
    Push(event);
    due = TakeDue();
  }
  for (auto& wake : due) wake();
}

void JobLog::Append(const ProgressEventPtr& event, const Mark* mark) {
  std::vector<absl::AnyInvocable<void()>> due;
  {
    MutexLock lock(&mu_);
    if (ended_) return;
    Push(event);
    if (mark != nullptr) {
      const auto& update = std::get<VertexUpdate>(*event);
      Seen& seen = seen_[index_.at(update.digest)];
      seen.last = event;
      switch (*mark) {
        case Mark::kKeys:
          seen.shown = Shown::kKeys;
          break;
        case Mark::kKeysDone:
          seen.shown = Shown::kKeysDone;
          break;
        case Mark::kStarted:
          seen.shown = Shown::kRunning;
          MarkInputsCached(update);
          break;
        case Mark::kCompleted:
          seen.shown = Shown::kRan;
          break;
        case Mark::kCached:
          seen.shown = Shown::kCached;
          MarkInputsCached(update);
          break;
      }
    }
    due = TakeDue();
  }
  for (auto& wake : due) wake();
}

void JobLog::MarkInputsCached(const VertexUpdate& starter) {
  const absl::Time when = starter.started;
  std::vector<Digest> stack(starter.inputs.rbegin(), starter.inputs.rend());
  while (!stack.empty()) {
    const auto it = index_.find(stack.back());
    stack.pop_back();
    if (it == index_.end()) continue;
    Seen& seen = seen_[it->second];
    if (seen.shown != Shown::kAnnounced && seen.shown != Shown::kKeysDone) continue;
    VertexUpdate update = std::get<VertexUpdate>(*seen.last);
    update.cached = true;
    update.started = update.completed = when;
    stack.insert(stack.end(), update.inputs.rbegin(), update.inputs.rend());
    seen.shown = Shown::kCached;
    seen.last = std::make_shared<const ProgressEvent>(std::move(update));
    Push(seen.last);
  }
}

void JobLog::End() {
  std::vector<absl::AnyInvocable<void()>> due;
  {
    MutexLock lock(&mu_);
    if (ended_) return;
    const absl::Time now = absl::Now();
    for (Seen& seen : seen_) {
      if (seen.shown != Shown::kRunning && seen.shown != Shown::kKeys) continue;
      VertexUpdate update = std::get<VertexUpdate>(*seen.last);
      update.completed = std::max(now, update.started);
      update.error = "context canceled";
      Push(std::make_shared<const ProgressEvent>(std::move(update)));
    }
    ended_ = true;
    due = TakeDue();
  }
  for (auto& wake : due) wake();
}

VertexUpdate VertexLog::Announcement() const {
  VertexUpdate update;
  update.digest = info_->digest;
  update.inputs = inputs_;
  update.name = info_->name;
  update.progress_group = info_->progress_group;
  return update;
}

void VertexLog::Subscribe(std::shared_ptr<JobLog> job) {
  MutexLock lock(&mu_);
  if (announcement_ == nullptr)
    announcement_ = std::make_shared<const ProgressEvent>(Announcement());
  job->Announce(announcement_);
  for (const Entry& entry : entries_)
    job->Append(entry.event, entry.has_mark ? &entry.mark : nullptr);
  jobs_.push_back(std::move(job));
}

void VertexLog::Unsubscribe(const JobLog* job) {
  MutexLock lock(&mu_);
  jobs_.erase(std::remove_if(jobs_.begin(), jobs_.end(),
                             [&](const auto& held) { return held.get() == job; }),
              jobs_.end());
}

void VertexLog::Append(Entry entry) {
  for (const std::shared_ptr<JobLog>& job : jobs_)
    job->Append(entry.event, entry.has_mark ? &entry.mark : nullptr);
  entries_.push_back(std::move(entry));
}

void VertexLog::Tell(Mark mark, absl::Time now, const std::string& error) {
  VertexUpdate update = Announcement();
  MutexLock lock(&mu_);
  switch (mark) {
    case Mark::kKeys:
    case Mark::kStarted:
      update.started = started_ = now;
      break;
    case Mark::kKeysDone:
    case Mark::kCompleted:
      update.started = started_ == absl::InfinitePast() ? now : started_;
      update.completed = std::max(now, update.started);
      started_ = absl::InfinitePast();
      break;
    case Mark::kCached:
      update.started = update.completed = now;
      update.cached = true;
      started_ = absl::InfinitePast();
      break;
  }
  update.error = error;
  Append({std::make_shared<const ProgressEvent>(std::move(update)), true, mark});
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
  for (const Entry& entry : entries_)
    if (!entry.has_mark) follower->FromOp(follower->AsOwn(*entry.event));
  followers_.push_back(std::move(follower));
}

void VertexLog::DropFollowers() {
  MutexLock lock(&mu_);
  followers_.clear();
}

void VertexLog::FromOp(ProgressEventPtr event) {
  MutexLock lock(&mu_);
  for (const std::shared_ptr<VertexLog>& follower : followers_)
    follower->FromOp(follower->AsOwn(*event));
  Append({std::move(event)});
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

}  // namespace kiln::solver
