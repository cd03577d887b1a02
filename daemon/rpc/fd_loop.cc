#include "daemon/rpc/fd_loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "store/base/check.h"

namespace kiln::daemon {

FdLoop::FdLoop(std::string name)
    : name_(std::move(name)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  KILN_CHECK(epoll_.valid() && wake_.valid());
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 0;
  KILN_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) == 0);
  thread_ = std::thread([this] { Run(); });
}

FdLoop::~FdLoop() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  Post([] {});
  thread_.join();
}

uint64_t FdLoop::Add(int fd, Callback ready) {
  MutexLock lock(&mu_);
  const uint64_t id = next_id_++;
  epoll_event event = {};
  event.events = EPOLLONESHOT;  // with nothing armed only errors are told, once
  event.data.u64 = id;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return 0;
  watches_.emplace(id, std::make_shared<Watch>(Watch{fd, std::move(ready)}));
  return id;
}

void FdLoop::Arm(uint64_t id, uint32_t events) {
  MutexLock lock(&mu_);
  const auto found = watches_.find(id);
  if (found == watches_.end()) return;
  epoll_event event = {};
  event.events = events | EPOLLONESHOT;
  event.data.u64 = id;
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, found->second->fd, &event);
}

void FdLoop::Remove(uint64_t id) {
  std::shared_ptr<Watch> removed;  // destroyed after the lock is gone
  MutexLock lock(&mu_);
  const auto found = watches_.find(id);
  if (found == watches_.end()) return;
  removed = std::move(found->second);
  watches_.erase(found);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, removed->fd, nullptr);
  if (std::this_thread::get_id() == thread_.get_id()) return;
  while (running_ == id) idle_.Wait(&mu_);
}

void FdLoop::Post(absl::AnyInvocable<void()> work) {
  {
    MutexLock lock(&mu_);
    posted_.push_back(std::move(work));
  }
  const uint64_t one = 1;
  // Fails only when the counter is full, and then a wake-up is pending anyway.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

void FdLoop::Dispatch(uint64_t id, uint32_t events) {
  std::shared_ptr<Watch> watch;
  {
    MutexLock lock(&mu_);
    const auto found = watches_.find(id);
    if (found == watches_.end()) return;  // removed after the kernel told us
    watch = found->second;
    running_ = id;
  }
  watch->ready(events);
  watch.reset();
  MutexLock lock(&mu_);
  running_ = 0;
  idle_.SignalAll();
}

void FdLoop::PostAfter(absl::Duration delay, absl::AnyInvocable<void()> work) {
  {
    MutexLock lock(&mu_);
    timers_.emplace(std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(delay),
                    std::move(work));
  }
  // The loop may have to wake earlier now.
  if (std::this_thread::get_id() != thread_.get_id()) Post([] {});
}

int FdLoop::NextTimeoutMs() {
  MutexLock lock(&mu_);
  if (timers_.empty()) return -1;
  const auto left = timers_.begin()->first - std::chrono::steady_clock::now();
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::clamp<int64_t>(ms, 0, 60'000));
}

void FdLoop::RunPosted() {
  std::vector<absl::AnyInvocable<void()>> work;
  {
    MutexLock lock(&mu_);
    work.swap(posted_);
    const auto due = timers_.upper_bound(std::chrono::steady_clock::now());
    for (auto it = timers_.begin(); it != due; ++it) work.push_back(std::move(it->second));
    timers_.erase(timers_.begin(), due);
  }
  for (auto& item : work) item();
}

void FdLoop::Run() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  std::array<epoll_event, 64> events;
  while (true) {
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), NextTimeoutMs());
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 != 0) {
        Dispatch(events[i].data.u64, events[i].events);
        continue;
      }
      uint64_t ignored;
      [[maybe_unused]] const ssize_t got = read(wake_.get(), &ignored, sizeof(ignored));
    }
    {
      MutexLock lock(&mu_);
      if (stopping_) return;
    }
    RunPosted();
  }
}

}  // namespace kiln::daemon
