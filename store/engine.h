#pragma once

#include <rocksdb/db.h>

#include <array>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/database.h"

namespace kiln::store {

// An open RocksDB with a handle for each family; closed by the destructor. For database.cc alone.
// Thread-safe.
class Engine {
 public:
  static absl::StatusOr<std::shared_ptr<Engine>> Open(const DatabaseOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  rocksdb::DB* db() const { return db_.get(); }
  rocksdb::ColumnFamilyHandle* handle(Family family) const {
    return families_[static_cast<size_t>(family)];
  }

 private:
  Engine() = default;

  std::unique_ptr<rocksdb::DB> db_;
  std::array<rocksdb::ColumnFamilyHandle*, kFamilyCount> families_ = {};
};

absl::string_view NameOf(Family family);
// Leading bytes by which rows are scanned and which enter the bloom filter; 0 = whole keys only.
size_t FilteredPrefix(Family family);

}  // namespace kiln::store
