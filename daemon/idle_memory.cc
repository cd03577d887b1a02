#include "daemon/idle_memory.h"

#include <malloc.h>

#include <algorithm>

namespace kiln::daemon {
namespace {

// A small build leaves less; taking it back would cost the next one page faults for nothing.
constexpr size_t kMuch = 16 << 20;
constexpr size_t kChange = 4 << 20;

}  // namespace

bool IdleMemory::Return() {
  // Counts what was given back already, too.
  const size_t free_bytes = mallinfo2().fordblks;
  const auto [low, high] = std::minmax(free_bytes, free_bytes_);
  if (free_bytes < kMuch || high - low < kChange) return false;
  malloc_trim(0);
  free_bytes_ = mallinfo2().fordblks;
  return true;
}

}  // namespace kiln::daemon
