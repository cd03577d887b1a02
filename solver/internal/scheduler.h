#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "solver/internal/vertex.h"

namespace kiln::solver {

// Decides which execution may start. An execution first takes its locks, in the order of their
// names and first come first served, and only then waits for a slot; so a slot is never held by
// one that waits, and two that need the same locks cannot wait for each other.
//
// A free slot goes to the job that uses the fewest, and within a job to the execution with the
// longest way to go. Loop thread only.
class Scheduler {
 public:
  // `slots` 0: unlimited.
  explicit Scheduler(uint32_t slots) : slots_(slots) {}

  // `jobs`: who wants it. Those that may start are appended to started().
  void Enqueue(Execution* execution, absl::Span<JobState* const> jobs);
  // Another job wants it too.
  void AddJob(Execution* execution, JobState* job);
  // The job is gone.
  void ForgetJob(JobState* job);
  // The execution ended, or is not wanted any more while it waits: gives back what it holds.
  void Release(Execution* execution);

  // The next that may start now, or null; the caller starts it.
  Execution* TakeStarted();
  bool has_started() const { return !started_.empty(); }

  // True when one more execution would have to wait for a slot.
  bool Full() const { return slots_ > 0 && used_ >= slots_; }

 private:
  struct Lock {
    std::deque<Execution*> queue;  // waiting
    uint32_t shared = 0;           // holders
    bool exclusive = false;
  };
  // Longest way first, then oldest.
  using Rank = std::tuple<int64_t, uint64_t, Execution*>;

  void TakeLocks(Execution* execution);
  bool Grant(Execution* execution, const Op::Resource& resource);
  void Unlock(const Op::Resource& resource);
  void FillSlots();
  void RemoveJob(Execution* execution, JobState* job);
  static Rank RankOf(Execution* execution);

  const uint32_t slots_;
  uint32_t used_ = 0;
  uint64_t next_order_ = 1;
  size_t ready_ = 0;  // executions that wait for a slot
  absl::flat_hash_map<std::string, Lock> locks_;
  absl::flat_hash_map<JobState*, std::set<Rank>>
      waiting_;                       // for a slot, by job; one may be in several
  std::vector<Execution*> enqueued_;  // and not released yet
  std::deque<Execution*> started_;
};

}  // namespace kiln::solver
