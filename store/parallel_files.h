#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "store/base/mutex.h"
#include "store/tree_writer.h"

namespace kiln::store {

// Makes the files of one tree on several threads, as making a file is nearly all kernel work.
//
// What is posted must not depend on each other: each file has its directory already, and nobody
// else touches it until Drain. The owner may use its own writer meanwhile, except to remove
// directories that have files posted. Few files are made by the caller itself, without a thread.
// One user at a time. Blocks.
class ParallelFiles {
 public:
  using Work = absl::AnyInvocable<absl::Status(TreeWriter&)>;

  // `writer` outlives this. At most `max_threads` threads; 0: as many as there are processors, but
  // no more than four.
  explicit ParallelFiles(TreeWriter& writer, size_t max_threads = 0);
  // Waits for what is under way; what is still queued is dropped.
  ~ParallelFiles();
  ParallelFiles(const ParallelFiles&) = delete;
  ParallelFiles& operator=(const ParallelFiles&) = delete;

  // Has `work` make a file in the directory `dir`, with a writer of its thread. `bytes` is the
  // memory that `work` holds; the caller waits while too much is queued. May return an error of
  // what was posted before; work after an error is dropped.
  absl::Status Post(absl::string_view dir, size_t bytes, Work work);

  // Waits until everything is made, and ends the threads. The first error since the last Drain.
  absl::Status Drain();

 private:
  struct Item {
    Work work;
    size_t bytes = 0;
  };
  struct Thread {
    std::unique_ptr<TreeWriter> writer;
    // Under mu_, as load: what is queued and what is being made.
    std::deque<Item> queue;
    size_t load = 0;
    CondVar changed;
    std::thread thread;
  };

  void Start();
  absl::Status HandOver();
  Thread* Choose() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool Full() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Run(Thread& self);
  void Join();

  TreeWriter& writer_;
  const size_t max_threads_;
  // Owned by the user's thread.
  size_t posted_ = 0;       // since the last Drain
  std::string dir_;         // of what is in batch_
  Thread* last_ = nullptr;  // got the last batch
  std::vector<Item> batch_;
  std::vector<std::unique_ptr<Thread>> threads_;

  Mutex mu_;
  CondVar room_;
  size_t load_ ABSL_GUARDED_BY(mu_) = 0;  // of all threads
  size_t held_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status error_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::store
