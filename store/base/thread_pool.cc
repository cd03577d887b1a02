#include "store/base/thread_pool.h"

#include <pthread.h>

#include <utility>

namespace kiln {

ThreadPool::ThreadPool(std::string name, size_t max_threads)
    : name_(std::move(name)), max_threads_(max_threads) {}

ThreadPool::~ThreadPool() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

void ThreadPool::Post(absl::AnyInvocable<void()> work) {
  MutexLock lock(&mu_);
  queue_.push_back(std::move(work));
  if (queue_.size() > idle_ && threads_.size() < max_threads_ && !stopping_) {
    threads_.emplace_back([this] { Run(); });
    return;
  }
  changed_.Signal();
}

size_t ThreadPool::queued() const {
  MutexLock lock(&mu_);
  return queue_.size();
}

void ThreadPool::Run() {
  ::pthread_setname_np(::pthread_self(), name_.c_str());
  for (;;) {
    absl::AnyInvocable<void()> work;
    {
      MutexLock lock(&mu_);
      ++idle_;
      while (queue_.empty() && !stopping_) changed_.Wait(&mu_);
      --idle_;
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

}  // namespace kiln
