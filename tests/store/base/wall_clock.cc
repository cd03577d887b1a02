#include "tests/store/base/wall_clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace kiln {
namespace {

constinit std::atomic<int64_t> offset_ns = 0;

}  // namespace

void SetWallClockBy(absl::Duration change) { offset_ns += absl::ToInt64Nanoseconds(change); }

}  // namespace kiln

// In place of the C library's, for the program and its libraries.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  const int result = static_cast<int>(::syscall(SYS_clock_gettime, clock, now));
  if (result != 0 || clock != CLOCK_REALTIME) return result;
  constexpr int64_t kSecond = 1'000'000'000;
  const int64_t ns = now->tv_sec * kSecond + now->tv_nsec + kiln::offset_ns;
  now->tv_sec = ns / kSecond;
  now->tv_nsec = ns % kSecond;
  return 0;
}
