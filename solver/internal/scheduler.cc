#include "solver/internal/scheduler.h"

#include <algorithm>
#include <utility>

#include "store/base/check.h"

namespace kiln::solver {

Scheduler::Rank Scheduler::RankOf(Execution* execution) {
  return {-execution->run->path_ns, execution->run->order, execution};
}

void Scheduler::Enqueue(Execution* execution, absl::Span<JobState* const> jobs) {
  Run& run = *execution->run;
  run.enqueued = true;
  run.place = static_cast<uint32_t>(enqueued_.size());
  enqueued_.push_back(execution);
  run.order = next_order_++;
  run.path_ns = run.leader->path_ns;
  run.charged.assign(jobs.begin(), jobs.end());
  run.locks_held = 0;
  TakeLocks(execution);
  FillSlots();
}

void Scheduler::TakeLocks(Execution* execution) {
  while (execution->run->locks_held < execution->run->locks.size()) {
    if (!Grant(execution, execution->run->locks[execution->run->locks_held])) return;
    ++execution->run->locks_held;
  }
  if (!execution->run->takes_slot) {
    started_.push_back(execution);
    return;
  }
  const Rank rank = RankOf(execution);
  for (JobState* job : execution->run->charged) waiting_[job].insert(rank);
  execution->run->wants_slot = true;
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
  if (std::find(execution->run->charged.begin(), execution->run->charged.end(), job) !=
      execution->run->charged.end())
    return;
  execution->run->charged.push_back(job);
  if (execution->run->wants_slot) waiting_[job].insert(RankOf(execution));
  if (execution->run->has_slot) ++job->running;
}

void Scheduler::RemoveJob(Execution* execution, JobState* job) {
  const auto it = std::find(execution->run->charged.begin(), execution->run->charged.end(), job);
  if (it == execution->run->charged.end()) return;
  execution->run->charged.erase(it);
  if (execution->run->has_slot) --job->running;
  if (!execution->run->wants_slot) return;
  const auto queue = waiting_.find(job);
  queue->second.erase(RankOf(execution));
  if (queue->second.empty()) waiting_.erase(queue);
}

void Scheduler::ForgetJob(JobState* job) {
  for (Execution* execution : enqueued_) RemoveJob(execution, job);
}

void Scheduler::Release(Execution* execution) {
  Run& run = *execution->run;
  if (!std::exchange(run.enqueued, false)) return;
  enqueued_.back()->run->place = run.place;
  enqueued_[run.place] = enqueued_.back();
  enqueued_.pop_back();
  if (run.wants_slot) {
    while (!run.charged.empty()) RemoveJob(execution, run.charged.back());
    run.wants_slot = false;
    --ready_;
  }
  if (run.has_slot) {
    run.has_slot = false;
    --used_;
    for (JobState* job : run.charged) --job->running;
  }
  run.charged.clear();
  if (execution->state == ExecutionState::kWaiting)
    started_.erase(std::remove(started_.begin(), started_.end(), execution), started_.end());

  const uint32_t held = std::exchange(run.locks_held, 0);
  for (uint32_t i = 0; i < run.locks.size(); ++i) {
    const Op::Resource& resource = run.locks[i];
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
      const uint32_t before = next->run->locks_held;
      TakeLocks(next);
      if (next->run->locks_held == before) break;
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
    for (JobState* job : next->run->charged) {
      const auto queue = waiting_.find(job);
      queue->second.erase(best);
      if (queue->second.empty()) waiting_.erase(queue);
      ++job->running;
    }
    next->run->wants_slot = false;
    next->run->has_slot = true;
    --ready_;
    ++used_;
    started_.push_back(next);
  }
}

Execution* Scheduler::TakeStarted() {
  if (started_.empty()) return nullptr;
  Execution* const first = started_.front();
  started_.pop_front();
  return first;
}

}  // namespace kiln::solver
