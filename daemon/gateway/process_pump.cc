#include "daemon/gateway/process_pump.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "store/base/process.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kChunkBytes = 64 << 10;

absl::Status SetNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return ErrnoStatus(errno, "make a descriptor non-blocking");
  return absl::OkStatus();
}

// One output of a process.
struct Stream {
  int number;  // 1 or 2
  int fd;
  bool open = true;
};

// Reads once. False: nothing to be had now, or the end, which closes the stream.
absl::StatusOr<bool> ReadOnce(Stream& stream, std::string& buffer,
                              const ProcessPump::Output& output) {
  const ssize_t got = read(stream.fd, buffer.data(), buffer.size());
  if (got > 0) {
    KILN_RETURN_IF_ERROR(output(stream.number, absl::string_view(buffer.data(), got)));
    return true;
  }
  if (got < 0 && errno == EINTR) return true;
  if (got < 0 && errno == EAGAIN) return false;
  stream.open = false;  // EIO: the other side of a terminal is gone
  KILN_RETURN_IF_ERROR(output(stream.number, ""));
  return false;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProcessPump>> ProcessPump::Make(std::function<void()> taken) {
  Fd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return ErrnoStatus(errno, "make an eventfd");
  return std::unique_ptr<ProcessPump>(new ProcessPump(std::move(wake), std::move(taken)));
}

void ProcessPump::Wake() const {
  const uint64_t one = 1;
  // Full means that it will wake anyway.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

void ProcessPump::Write(std::string data) {
  {
    MutexLock lock(&mu_);
    if (input_ends_ || input_dead_ || data.empty()) return;
    input_bytes_ += data.size();
    input_.push_back(std::move(data));
  }
  Wake();
}

void ProcessPump::CloseInput() {
  {
    MutexLock lock(&mu_);
    input_ends_ = true;
  }
  Wake();
}

void ProcessPump::Resize(int rows, int columns) {
  {
    MutexLock lock(&mu_);
    orders_.size = {rows, columns};
  }
  Wake();
}

void ProcessPump::Signal(int signal_number) {
  {
    MutexLock lock(&mu_);
    orders_.signals.push_back(signal_number);
  }
  Wake();
}

size_t ProcessPump::queued_bytes() const {
  MutexLock lock(&mu_);
  return input_bytes_;
}

ProcessPump::Orders ProcessPump::TakeOrders() {
  MutexLock lock(&mu_);
  return std::exchange(orders_, {});
}

bool ProcessPump::HasInput() const {
  MutexLock lock(&mu_);
  return !input_.empty() || input_ends_;
}

bool ProcessPump::WriteInput(int fd) {
  bool progress = false, keep = true;
  {
    MutexLock lock(&mu_);
    while (!input_.empty()) {
      const std::string& front = input_.front();
      const ssize_t sent = write(fd, front.data() + input_offset_, front.size() - input_offset_);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) break;
      if (sent < 0) {  // nobody reads any more
        input_.clear();
        input_offset_ = input_bytes_ = 0;
        input_dead_ = progress = true;
        keep = false;
        break;
      }
      progress = true;
      input_bytes_ -= sent;
      input_offset_ += sent;
      if (input_offset_ < front.size()) continue;
      input_.pop_front();
      input_offset_ = 0;
    }
    if (input_.empty() && input_ends_) keep = false;
  }
  if (progress && taken_) taken_();
  return keep;
}

absl::Status ProcessPump::Pump(ContainerProcess& process, Pipes& pipes, const Output& output,
                               const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(const CancelFd cancelled, CancelFd::Make(cancel));
  std::string buffer(kChunkBytes, '\0');
  std::vector<Stream> streams;
  int input = pipes.in.get();
  if (process.terminal() >= 0) {
    input = process.terminal();
    streams.push_back({1, process.terminal()});
  }
  if (pipes.out.valid()) streams.push_back({1, pipes.out.get()});
  if (pipes.err.valid()) streams.push_back({2, pipes.err.get()});
  for (const Stream& stream : streams) KILN_RETURN_IF_ERROR(SetNonBlocking(stream.fd));
  if (input >= 0) KILN_RETURN_IF_ERROR(SetNonBlocking(input));

  while (true) {
    const Orders orders = TakeOrders();
    // A size that is refused leaves the old one; a signal to what has ended is no error.
    if (orders.size.has_value())
      process.Resize(orders.size->first, orders.size->second).IgnoreError();
    for (int signal_number : orders.signals) process.Signal(signal_number).IgnoreError();

    std::vector<pollfd> watched = {{process.pidfd(), POLLIN, 0},
                                   {cancelled.get(), POLLIN, 0},
                                   {wake_.get(), POLLIN, 0},
                                   {input >= 0 && HasInput() ? input : -1, POLLOUT, 0}};
    for (const Stream& stream : streams)
      watched.push_back({stream.open ? stream.fd : -1, POLLIN, 0});
    if (poll(watched.data(), watched.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "wait for a process");
    }
    if (watched[1].revents != 0) return cancel.status();
    if (watched[2].revents != 0) {
      uint64_t count;
      [[maybe_unused]] const ssize_t got = read(wake_.get(), &count, sizeof(count));
    }
    if (watched[3].revents != 0 && !WriteInput(input)) {
      // A terminal stays open for its output.
      pipes.in.Reset();
      input = -1;
    }
    const bool ended = watched[0].revents != 0;
    for (size_t i = 0; i < streams.size(); ++i) {
      if (watched[4 + i].revents == 0 && !(ended && streams[i].open)) continue;
      do {
        KILN_ASSIGN_OR_RETURN(const bool more, ReadOnce(streams[i], buffer, output));
        if (!more) break;
      } while (ended);  // what it left in the pipe
    }
    if (ended) break;
  }
  for (Stream& stream : streams)
    if (stream.open) KILN_RETURN_IF_ERROR(output(stream.number, ""));
  return absl::OkStatus();
}

absl::StatusOr<ExitInfo> ProcessPump::Run(ContainerProcess& process, Pipes pipes,
                                          const Output& output, const CancelToken& cancel) {
  const absl::Status pumped = Pump(process, pipes, output, cancel);
  {
    MutexLock lock(&mu_);
    input_dead_ = true;
    input_.clear();
    input_offset_ = input_bytes_ = 0;
  }
  if (taken_) taken_();
  if (pumped.ok()) return process.Wait(cancel);
  CancelSource stop;
  stop.Cancel(pumped);
  return process.Wait(stop.token());
}

}  // namespace kiln::daemon
