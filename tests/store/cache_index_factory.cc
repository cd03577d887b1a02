#include "tests/store/cache_index_factory.h"

#include "store/memory_cache_index.h"

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

}  // namespace

std::vector<CacheIndexFactory> CacheIndexFactories() {
  return {{"Memory", [] { return std::make_unique<InMemory>(); }}};
}

}  // namespace kiln::store
