#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/cache_index.h"

namespace kiln::store {

// An index and what it stands on.
class CacheIndexUnderTest {
 public:
  virtual ~CacheIndexUnderTest() = default;
  virtual CacheIndex& index() = 0;
  // Rows (or nodes) that saves left: zero once everything was released.
  virtual size_t RowCount() = 0;
  // Closes and opens again; false when the index does not outlive its process.
  virtual bool Reopen() = 0;
};

struct CacheIndexFactory {
  std::string name;
  std::function<std::unique_ptr<CacheIndexUnderTest>()> make;
};

std::vector<CacheIndexFactory> CacheIndexFactories();

}  // namespace kiln::store
