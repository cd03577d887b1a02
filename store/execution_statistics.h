#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "store/base/mutex.h"
#include "store/database.h"

namespace kiln::store {

// How long executions of an operation took, by op digest: a hint for the order of ready work.
//
// Bounded: kSets rows of kWays operations each; within a row the one used least lately gives way.
// Written in batches now and then and at the end; a kill loses the last few. Thread-safe.
class ExecutionStatistics {
 public:
  static constexpr uint32_t kSets = 32768;
  static constexpr size_t kWays = 4;

  explicit ExecutionStatistics(Database* database) : database_(database) {}
  ~ExecutionStatistics();

  // Zero when unknown. Reads at most one row.
  absl::Duration Mean(absl::string_view op_digest);
  // A moving mean: each new time counts for a quarter. Negative times (a clock set back) count as
  // zero.
  void Record(absl::string_view op_digest, absl::Duration took);
  absl::Status Flush();

 private:
  struct Entry {
    uint64_t tag = 0;  // names the operation within its row
    int64_t mean_nanos = 0;
    uint32_t count = 0;
  };
  using Row = std::vector<Entry>;  // the one used last first

  static Row Decode(absl::string_view value);
  // The row from memory or disk. An unreadable one counts as empty: it is only a hint.
  Row Load(uint32_t set);

  Database* const database_;
  Mutex mu_;  // not held during I/O
  absl::flat_hash_map<uint32_t, Row> rows_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<uint32_t> unwritten_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::store
