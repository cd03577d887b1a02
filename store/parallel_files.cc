#include "store/parallel_files.h"

#include <algorithm>
#include <utility>

#include "store/sibling_writer.h"

namespace kiln::store {

namespace {

// Until here a thread costs more than it brings.
constexpr size_t kAlone = 48;
constexpr size_t kMaxThreads = 4;
// Handed over together: a thread that is faster than its user is not woken for each file.
constexpr size_t kBatch = 16;
constexpr size_t kBehind = 4 * kBatch;
constexpr size_t kMaxQueued = 1024;
constexpr size_t kMaxQueuedBytes = 8 << 20;

size_t ThreadsFor(size_t wanted) {
  // Asked once: it reads a file.
  static const size_t processors =
      std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxThreads);
  return wanted > 0 ? wanted : processors;
}

}  // namespace

ParallelFiles::ParallelFiles(TreeWriter& writer, size_t max_threads)
    : writer_(writer), max_threads_(ThreadsFor(max_threads)) {}

ParallelFiles::~ParallelFiles() {
  {
    MutexLock lock(&mu_);
    if (error_.ok()) error_ = absl::CancelledError("dropped");
  }
  Join();
}

absl::Status ParallelFiles::Post(absl::string_view dir, size_t bytes, Work work) {
  if (max_threads_ < 2 || ++posted_ <= kAlone) return work(writer_);
  if (threads_.empty()) Start();
  absl::Status status;
  if (dir != dir_ || batch_.size() >= kBatch) {
    status = HandOver();
    if (dir != dir_) last_ = nullptr;
    dir_ = std::string(dir);
  }
  batch_.push_back(Item{std::move(work), bytes});
  return status;
}

void ParallelFiles::Start() {
  for (size_t i = 0; i < max_threads_; ++i) {
    threads_.push_back(std::make_unique<Thread>());
    Thread& added = *threads_.back();
    added.writer = SiblingOf(writer_);
    added.thread = std::thread([this, &added] { Run(added); });
  }
}

bool ParallelFiles::Full() const { return load_ > kMaxQueued || held_bytes_ > kMaxQueuedBytes; }

// Files of one directory go to one thread while it keeps up, as the kernel makes them one after the
// other anyway; else the one with the least to do gets them.
ParallelFiles::Thread* ParallelFiles::Choose() {
  const auto least = std::min_element(threads_.begin(), threads_.end(),
                                      [](auto& a, auto& b) { return a->load < b->load; });
  if (last_ == nullptr || (last_->load > kBehind && (*least)->load == 0)) last_ = least->get();
  return last_;
}

absl::Status ParallelFiles::HandOver() {
  MutexLock lock(&mu_);
  if (!error_.ok()) batch_.clear();
  if (batch_.empty()) return error_;
  while (Full()) room_.Wait(&mu_);
  Thread& thread = *Choose();
  const bool waits = thread.load == 0;
  for (Item& item : batch_) {
    held_bytes_ += item.bytes;
    thread.queue.push_back(std::move(item));
  }
  thread.load += batch_.size();
  load_ += batch_.size();
  batch_.clear();
  if (waits) thread.changed.Signal();
  return error_;
}

void ParallelFiles::Run(Thread& self) {
  std::deque<Item> mine;
  for (;;) {
    absl::Status status;
    {
      MutexLock lock(&mu_);
      while (self.queue.empty() && !draining_) self.changed.Wait(&mu_);
      if (self.queue.empty()) return;
      mine.swap(self.queue);
      status = error_;
    }
    size_t bytes = 0;
    for (Item& item : mine) {
      bytes += item.bytes;
      if (status.ok()) status = item.work(*self.writer);
    }
    const size_t count = mine.size();
    mine.clear();
    MutexLock lock(&mu_);
    const bool full = Full();
    self.load -= count;
    load_ -= count;
    held_bytes_ -= bytes;
    if (error_.ok()) error_ = status;
    if (full) room_.Signal();
  }
}

void ParallelFiles::Join() {
  {
    MutexLock lock(&mu_);
    draining_ = true;
    for (const auto& each : threads_) each->changed.Signal();
  }
  for (const auto& each : threads_) each->thread.join();
  threads_.clear();
}

absl::Status ParallelFiles::Drain() {
  (void)HandOver();  // the error is still there below
  Join();
  posted_ = 0;
  dir_.clear();
  last_ = nullptr;
  MutexLock lock(&mu_);
  draining_ = false;
  return std::exchange(error_, absl::OkStatus());
}

}  // namespace kiln::store
