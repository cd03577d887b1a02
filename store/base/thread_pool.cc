#include "store/base/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace kiln {

ThreadPool::ThreadPool(std::string name, size_t max_threads, absl::Duration idle_time)
    : name_(std::move(name)), max_threads_(max_threads), idle_time_(idle_time) {}

ThreadPool::~ThreadPool() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mu_);
    // One may wait for another: none is left to threads that would be woken later.
    for (size_t runners = idle_; runners < queue_.size() && threads_.size() < max_threads_;
         ++runners)
      threads_.emplace_back([this] { Run(); });
    stopping_ = true;
    changed_.SignalAll();
    threads.swap(threads_);
    if (left_.joinable()) threads.push_back(std::move(left_));
  }
  for (std::thread& thread : threads) thread.join();
}

void ThreadPool::Post(absl::AnyInvocable<void()> work) {
  MutexLock lock(&mu_);
  queue_.push_back(std::move(work));
  WakeOne();
}

void ThreadPool::WakeOne() {
  if (waking_) return;
  if (idle_ > 0) {
    waking_ = true;
    changed_.Signal();
  } else if (threads_.size() < max_threads_ && !stopping_) {
    waking_ = true;
    threads_.emplace_back([this] { Run(); });
  }
}

size_t ThreadPool::queued() const {
  MutexLock lock(&mu_);
  return queue_.size();
}

size_t ThreadPool::threads() const {
  MutexLock lock(&mu_);
  return threads_.size();
}

bool ThreadPool::WaitForWork() {
  ++idle_;
  bool idle_for_long = false;
  while (queue_.empty() && !stopping_ && !idle_for_long) {
    idle_for_long = !changed_.WaitFor(&mu_, idle_time_) && threads_.size() > kKeptThreads;
    waking_ = false;
  }
  --idle_;
  return !queue_.empty();
}

std::thread ThreadPool::Leave() {
  const auto own = std::find_if(threads_.begin(), threads_.end(), [](const std::thread& thread) {
    return thread.get_id() == std::this_thread::get_id();
  });
  std::thread before = std::exchange(left_, std::move(*own));
  threads_.erase(own);
  return before;
}

bool ThreadPool::Next(absl::AnyInvocable<void()>* work, std::thread* before) {
  MutexLock lock(&mu_);
  if (WaitForWork()) {
    *work = std::move(queue_.front());
    queue_.pop_front();
    if (!queue_.empty()) WakeOne();
    return true;
  }
  if (!stopping_) *before = Leave();
  return false;
}

void ThreadPool::Run() {
  ::pthread_setname_np(::pthread_self(), name_.c_str());
  {
    MutexLock lock(&mu_);
    waking_ = false;
  }
  std::thread before;
  for (;;) {
    absl::AnyInvocable<void()> work;
    if (!Next(&work, &before)) break;
    work();
  }
  if (before.joinable()) before.join();  // it has ended, or is about to
}

}  // namespace kiln
