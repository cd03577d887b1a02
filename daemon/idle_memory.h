#pragma once

#include <cstddef>

namespace kiln::daemon {

// Gives memory that the heap has free back to the kernel: malloc only does so with what lies at the
// very end of an arena. Not thread-safe.
class IdleMemory {
 public:
  // Does so when it is much, and has changed since the last time. Others wait for it when they
  // allocate, some milliseconds: for when nothing runs. Returns whether there was something to do.
  bool Return();

 private:
  size_t free_bytes_ = 0;  // after the last time
};

}  // namespace kiln::daemon
