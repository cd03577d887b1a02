#include "solver/internal/scheduler.h"

#include <algorithm>
#include <utility>

#include "store/base/check.h"

namespace kiln::solver {

Scheduler::Rank Scheduler::RankOf(Execution* execution) {
  return {-execution->path, execution->order, execution};
}

void Scheduler::Enqueue(Execution* execution, const std::vector<JobState*>& jobs) {
  enqueued_.insert(execution);
  execution->order = next_order_++;
  execution->path = absl::ToInt64Nanoseconds(execution->leader->path);
  execution->charged = jobs;
  execution->locks_held = 0;
  TakeLocks(execution);
  FillSlots();
}

void Scheduler::TakeLocks(Execution* execution) {
  while (execution->locks_held < execution->locks.size()) {
    if (!Grant(execution, execution->locks[execution->locks_held])) return;
    ++execution->locks_held;
  }
  if (!execution->takes_slot) {
    started_.push_back(execution);
    return;
  }
  const Rank rank = RankOf(execution);
  for (JobState* job : execution->charged) waiting_[job].insert(rank);
  execution->wants_slot = true;
  ++ready_;
}

bool Scheduler::Grant(Execution* execution, const Op::Resource& resource) {
  Lock& lock = locks_[resource.name];
  const bool free = !lock.exclusive && (!resource.exclusive || lock.shared == 0);
  const bool first = lock.queue.empty() || lock.queue.front() == execution;
  if (!free || !first) {
    if (std::find(lock.queue.begin(), lock.queue.end(), execution) == lock.queue.end())
      lock.queue.push_back(execution);
    return false;
  }
  if (!lock.queue.empty()) lock.queue.pop_front();
  if (resource.exclusive) {
    lock.exclusive = true;
  } else {
    ++lock.shared;
  }
  return true;
}

void Scheduler::Unlock(const Op::Resource& resource) {
  Lock& lock = locks_[resource.name];
  if (resource.exclusive) {
    lock.exclusive = false;
  } else {
    --lock.shared;
  }
}

void Scheduler::AddJob(Execution* execution, JobState* job) {
  if (std::find(execution->charged.begin(), execution->charged.end(), job) !=
      execution->charged.end())
    return;
  execution->charged.push_back(job);
  if (execution->wants_slot) waiting_[job].insert(RankOf(execution));
  if (execution->has_slot) ++job->running;
}

void Scheduler::RemoveJob(Execution* execution, JobState* job) {
  const auto it = std::find(execution->charged.begin(), execution->charged.end(), job);
  if (it == execution->charged.end()) return;
  execution->charged.erase(it);
  if (execution->has_slot) --job->running;
  if (!execution->wants_slot) return;
  const auto queue = waiting_.find(job);
  queue->second.erase(RankOf(execution));
  if (queue->second.empty()) waiting_.erase(queue);
}

void Scheduler::ForgetJob(JobState* job) {
  for (Execution* execution : enqueued_) RemoveJob(execution, job);
}

void Scheduler::Release(Execution* execution) {
  if (enqueued_.erase(execution) == 0) return;
  if (execution->wants_slot) {
    while (!execution->charged.empty()) RemoveJob(execution, execution->charged.back());
    execution->wants_slot = false;
    --ready_;
  }
  if (execution->has_slot) {
    execution->has_slot = false;
    --used_;
    for (JobState* job : execution->charged) --job->running;
  }
  execution->charged.clear();
  started_.erase(std::remove(started_.begin(), started_.end(), execution), started_.end());

  const uint32_t held = std::exchange(execution->locks_held, 0);
  for (uint32_t i = 0; i < execution->locks.size(); ++i) {
    const Op::Resource& resource = execution->locks[i];
    if (i < held) {
      Unlock(resource);
    } else if (i == held) {  // it may wait for this one
      auto& queue = locks_[resource.name].queue;
      queue.erase(std::remove(queue.begin(), queue.end(), execution), queue.end());
    } else {
      break;
    }
    // Whoever is next may go on, and after a shared one the one behind it too.
    for (;;) {
      const auto it = locks_.find(resource.name);
      if (it == locks_.end()) break;
      Lock& lock = it->second;
      if (lock.queue.empty()) {
        if (!lock.exclusive && lock.shared == 0) locks_.erase(it);
        break;
      }
      Execution* next = lock.queue.front();
      const uint32_t before = next->locks_held;
      TakeLocks(next);
      if (next->locks_held == before) break;
    }
  }
  FillSlots();
}

void Scheduler::FillSlots() {
  while (ready_ > 0 && (slots_ == 0 || used_ < slots_)) {
    Execution* next = nullptr;
    const JobState* from = nullptr;
    Rank best;
    for (const auto& [job, ranks] : waiting_) {
      if (ranks.empty()) continue;
      const Rank& rank = *ranks.begin();
      const bool better = from == nullptr || job->running < from->running ||
                          (job->running == from->running && rank < best);
      if (!better) continue;
      from = job;
      best = rank;
      next = std::get<2>(rank);
    }
    KILN_CHECK(next != nullptr);
    for (JobState* job : next->charged) {
      const auto queue = waiting_.find(job);
      queue->second.erase(best);
      if (queue->second.empty()) waiting_.erase(queue);
      ++job->running;
    }
    next->wants_slot = false;
    next->has_slot = true;
    --ready_;
    ++used_;
    started_.push_back(next);
  }
}

std::vector<Execution*> Scheduler::TakeStarted() { return std::exchange(started_, {}); }

}  // namespace kiln::solver
