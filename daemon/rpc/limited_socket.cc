#include "daemon/rpc/limited_socket.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>

#include "daemon/rpc/message_limit.h"

namespace kiln::daemon {
namespace {

// By descriptor; what is never used takes no memory. More descriptors than Linux gives a process
// unless told otherwise (fs.nr_open).
constexpr int kMaxDescriptors = 1 << 20;
std::array<std::atomic<MessageLimit*>, kMaxDescriptors> limits;

std::atomic<MessageLimit*>* LimitOf(int fd) {
  return fd >= 0 && fd < kMaxDescriptors ? &limits[static_cast<size_t>(fd)] : nullptr;
}

}  // namespace

void LimitMessages(int fd) {
  if (auto* limit = LimitOf(fd)) delete limit->exchange(new MessageLimit());
}

}  // namespace kiln::daemon

extern "C" {

// NOLINTBEGIN(bugprone-reserved-identifier): the names are the linker's.
ssize_t __real_recvmsg(int fd, msghdr* message, int flags);
int __real_close(int fd);

ssize_t __wrap_recvmsg(int fd, msghdr* message, int flags) {
  const ssize_t got = __real_recvmsg(fd, message, flags);
  if (got <= 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE)) != 0) return got;
  auto* const limit = kiln::daemon::LimitOf(fd);
  if (limit == nullptr) return got;
  if (kiln::daemon::MessageLimit* const found = limit->load(std::memory_order_acquire)) {
    size_t left = static_cast<size_t>(got);
    for (size_t i = 0; i < message->msg_iovlen && left > 0; ++i) {
      const iovec& part = message->msg_iov[i];
      const size_t size = std::min(part.iov_len, left);
      found->Pass({static_cast<uint8_t*>(part.iov_base), size});
      left -= size;
    }
  }
  return got;
}

int __wrap_close(int fd) {
  auto* const limit = kiln::daemon::LimitOf(fd);
  if (limit != nullptr && limit->load(std::memory_order_relaxed) != nullptr)
    delete limit->exchange(nullptr);
  return __real_close(fd);
}
// NOLINTEND(bugprone-reserved-identifier)

}  // extern "C"
