#pragma once

#include <rocksdb/env.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace kiln::store {

// When and how writing fails.
struct FaultPlan {
  enum class Kind { kNoSpace, kIoError };
  std::atomic<int64_t> writes_left{INT64_MAX};  // counted down by each write, sync and new file
  std::atomic<bool> failing{false};             // true once it reached zero; set false to mend
  std::atomic<int64_t> failures{0};
  std::atomic<Kind> kind{Kind::kNoSpace};
  std::atomic<bool> torn{false};  // a failing write gets half of its bytes onto the disk
};

// RocksDB's default environment over a file system that fails as `plan` (which outlives it) says.
std::unique_ptr<rocksdb::Env> NewFaultyEnv(FaultPlan* plan);

}  // namespace kiln::store
