#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "store/base/check.h"

namespace kiln::solver {

// Objects of one type, side by side in slabs: very many of them come and go, and neither a search
// through free memory nor a heap block's own words are wanted for each. What was given back last is
// given out next, as it is in the cache. The slabs go when the last object does.
//
// Whoever has an object gives it back to its pool, before that goes. Not thread-safe.
template <typename T>
class Pool {
 public:
  Pool() = default;
  ~Pool() { KILN_CHECK(used_ == 0); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  template <typename... Args>
  T* New(Args&&... args) {
    ++used_;
    if constexpr (kPlain) return new T(std::forward<Args>(args)...);
    if (free_ == nullptr) AddSlab();
    Place* const place = std::exchange(free_, free_->next);
    return new (place) T(std::forward<Args>(args)...);
  }

  void Delete(T* object) {
    --used_;
    if constexpr (kPlain) {
      delete object;
      return;
    }
    object->~T();
    free_ = new (object) Place{free_};
    if (used_ > 0) return;
    slabs_.clear();
    free_ = nullptr;
    slab_size_ = kFirstSlab;
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr bool kPlain = true;  // so that a use after Delete is found
#else
  static constexpr bool kPlain = false;
#endif
  static constexpr size_t kFirstSlab = 16, kLargestSlab = 1024;  // objects
  union Place {
    Place* next;
    alignas(T) std::byte object[sizeof(T)];
  };

  void AddSlab() {
    std::unique_ptr<Place[]>& slab = slabs_.emplace_back(new Place[slab_size_]);
    for (size_t i = slab_size_; i-- > 0;) free_ = new (&slab[i]) Place{free_};
    slab_size_ = std::min(2 * slab_size_, kLargestSlab);
  }

  std::vector<std::unique_ptr<Place[]>> slabs_;
  Place* free_ = nullptr;
  size_t slab_size_ = kFirstSlab;
  size_t used_ = 0;
};

}  // namespace kiln::solver
