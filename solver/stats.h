#pragma once

#include <cstdint>

namespace kiln::solver {

// Counts since the solver was made. A value.
struct SolverStats {
  uint64_t vertices_loaded = 0;  // made because a definition named them
  uint64_t vertices_joined = 0;  // named by another job while they were there
  uint64_t cache_maps = 0;       // calls
  uint64_t content_digests = 0;  // calls
  uint64_t executions = 0;       // calls
  uint64_t followed = 0;         // vertices that took part in an equal one's execution
  uint64_t cached = 0;           // results loaded from the cache
  uint64_t load_failures = 0;    // cached results that could not be loaded
  uint64_t cancelled = 0;        // calls cancelled
  uint64_t failed = 0;           // vertices failed
  uint64_t retried = 0;          // calls made again because a client was lost
};

// What one job's vertices took.
struct JobStats {
  uint64_t vertices = 0;  // held
  uint64_t executed = 0;  // executions begun for it, alone or with others
  uint64_t followed = 0;  // vertices that took part in an equal one's execution
  uint64_t cached = 0;    // results loaded from the cache for it
};

}  // namespace kiln::solver
