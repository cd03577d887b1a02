#include "daemon/control/build.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "store/base/deadline.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kMaxRefused = 256;

}  // namespace

void WarningLog::Add(solver::VertexWarningUpdate warning) {
  std::vector<absl::AnyInvocable<void()>> woken;
  {
    MutexLock lock(&mu_);
    warnings_.push_back(std::move(warning));
    woken.swap(waiting_);
  }
  for (auto& wake : woken) wake();
}

std::vector<solver::VertexWarningUpdate> WarningLog::Read(size_t offset) {
  MutexLock lock(&mu_);
  if (offset >= warnings_.size()) return {};
  return {warnings_.begin() + static_cast<ptrdiff_t>(offset), warnings_.end()};
}

void WarningLog::NotifyAt(size_t offset, absl::AnyInvocable<void()> wake) {
  {
    MutexLock lock(&mu_);
    if (warnings_.size() <= offset) {
      waiting_.push_back(std::move(wake));
      return;
    }
  }
  wake();
}

absl::Status BuildTable::Add(BuildPtr build) {
  MutexLock lock(&mu_);
  if (!draining_.ok()) return draining_;
  const auto [entry, added] = builds_.try_emplace(build->ref, Entry{build, true});
  if (!added) return absl::AlreadyExistsError(absl::StrCat("job ID ", build->ref, " exists"));
  refused_.erase(std::remove(refused_.begin(), refused_.end(), build->ref), refused_.end());
  ++total_;
  changed_.SignalAll();
  for (const auto& [id, listener] : listeners_) listener(build, nullptr);
  return absl::OkStatus();
}

void BuildTable::Refused(const std::string& ref) {
  MutexLock lock(&mu_);
  refused_.push_back(ref);
  if (refused_.size() > kMaxRefused) refused_.pop_front();
  changed_.SignalAll();
}

void BuildTable::End(const BuildPtr& build, const BuildEnd& end) {
  MutexLock lock(&mu_);
  const auto found = builds_.find(build->ref);
  if (found == builds_.end() || found->second.build != build) return;
  found->second.running = false;
  changed_.SignalAll();
  for (const auto& [id, listener] : listeners_) listener(build, &end);
}

void BuildTable::Remove(const BuildPtr& build) {
  BuildPtr removed;  // released after the lock is gone
  MutexLock lock(&mu_);
  const auto found = builds_.find(build->ref);
  if (found == builds_.end() || found->second.build != build) return;
  removed = std::move(found->second.build);
  builds_.erase(found);
}

absl::StatusOr<BuildPtr> BuildTable::Wait(absl::string_view ref, absl::Duration timeout,
                                          bool with_bridge, const CancelToken& cancel) {
  const Deadline deadline(timeout);
  // Before the lock: its destructor waits for the callback, which takes the lock.
  const CancelRegistration wake = cancel.OnCancel([this] {
    MutexLock lock(&mu_);
    changed_.SignalAll();
  });
  MutexLock lock(&mu_);
  while (true) {
    const auto found = builds_.find(ref);
    if (found != builds_.end()) {
      const Entry& entry = found->second;
      if (!with_bridge || (entry.running && entry.build->bridge != nullptr)) return entry.build;
      if (!entry.running) return absl::NotFoundError(absl::StrCat("no such job ", ref));  // ended
    }
    if (found == builds_.end() &&
        std::find(refused_.begin(), refused_.end(), ref) != refused_.end()) {
      if (!with_bridge) return nullptr;
      return absl::NotFoundError(absl::StrCat("no such job ", ref));
    }
    if (cancel.Cancelled()) return cancel.status();
    if (deadline.Passed()) return absl::NotFoundError(absl::StrCat("no such job ", ref));
    changed_.WaitFor(&mu_, deadline.Left());
  }
}

absl::StatusOr<BuildPtr> BuildTable::Find(absl::string_view ref, const CancelToken& cancel) {
  return Wait(ref, waits_.status, /*with_bridge=*/false, cancel);
}

absl::StatusOr<std::shared_ptr<Bridge>> BuildTable::FindBridge(absl::string_view build_id,
                                                               const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const BuildPtr build,
                        Wait(build_id, waits_.bridge, /*with_bridge=*/true, cancel));
  return build->bridge;
}

BuildPtr BuildTable::Peek(absl::string_view ref) const {
  MutexLock lock(&mu_);
  const auto found = builds_.find(ref);
  return found == builds_.end() ? nullptr : found->second.build;
}

std::vector<BuildPtr> BuildTable::Running() const {
  std::vector<BuildPtr> running;
  {
    MutexLock lock(&mu_);
    for (const auto& [ref, entry] : builds_)
      if (entry.running) running.push_back(entry.build);
  }
  std::sort(running.begin(), running.end(),
            [](const BuildPtr& a, const BuildPtr& b) { return a->created_at < b->created_at; });
  return running;
}

int64_t BuildTable::total() const {
  MutexLock lock(&mu_);
  return total_;
}

void BuildTable::Drain(absl::Status why) {
  MutexLock lock(&mu_);
  draining_ = std::move(why);
}

bool BuildTable::WaitIdle(absl::Time deadline) {
  const Deadline end(deadline - absl::Now());
  MutexLock lock(&mu_);
  while (std::any_of(builds_.begin(), builds_.end(),
                     [](const auto& item) { return item.second.running; })) {
    if (end.Passed()) return false;
    changed_.WaitFor(&mu_, end.Left());
  }
  return true;
}

void BuildTable::CancelAll(const absl::Status& why) {
  for (const BuildPtr& build : Running()) build->cancel->Cancel(why);
}

uint64_t BuildTable::AddListener(Listener listener) {
  MutexLock lock(&mu_);
  std::vector<BuildPtr> running;
  for (const auto& [ref, entry] : builds_)
    if (entry.running) running.push_back(entry.build);
  std::sort(running.begin(), running.end(),
            [](const BuildPtr& a, const BuildPtr& b) { return a->created_at < b->created_at; });
  for (const BuildPtr& build : running) listener(build, nullptr);
  const uint64_t id = next_listener_++;
  listeners_.emplace(id, std::move(listener));
  return id;
}

void BuildTable::RemoveListener(uint64_t id) {
  MutexLock lock(&mu_);
  listeners_.erase(id);
}

}  // namespace kiln::daemon
