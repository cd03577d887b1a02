#include "tests/store/cache_index_factory.h"

#include <utility>

#include "store/base/check.h"
#include "store/database.h"
#include "store/memory_cache_index.h"
#include "store/rocks_cache_index.h"
#include "tests/store/temp_dir.h"

namespace kiln::store {
namespace {

class InMemory : public CacheIndexUnderTest {
 public:
  CacheIndex& index() override { return index_; }
  size_t RowCount() override { return index_.node_count() + index_.link_count(); }
  bool Reopen() override { return false; }

 private:
  MemoryCacheIndex index_;
};

class OnRocks : public CacheIndexUnderTest {
 public:
  OnRocks() { Open(); }
  CacheIndex& index() override { return *index_; }

  size_t RowCount() override {
    size_t count = 0;
    for (const Family family : {Family::kKeys, Family::kLinks, Family::kBackLinks, Family::kAliases,
                                Family::kRecords, Family::kResults}) {
      Cursor cursor = database_->Scan(family, "");
      for (; cursor.Valid(); cursor.Next()) ++count;
      KILN_CHECK(cursor.status().ok());
    }
    return count;
  }

  bool Reopen() override {
    index_.reset();
    database_.reset();
    Open();
    return true;
  }

 private:
  void Open() {
    DatabaseOptions options;
    options.path = dir_.path() + "/index";
    options.boot_id = "boot";
    auto database = Database::Open(options);
    KILN_CHECK(database.ok());
    database_ = *std::move(database);
    index_ = std::make_unique<RocksCacheIndex>(database_.get());
  }

  TempDir dir_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<RocksCacheIndex> index_;
};

}  // namespace

std::vector<CacheIndexFactory> CacheIndexFactories() {
  return {{"Memory", [] { return std::make_unique<InMemory>(); }},
          {"Rocks", [] { return std::make_unique<OnRocks>(); }}};
}

}  // namespace kiln::store
