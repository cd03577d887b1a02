#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <functional>
#include <new>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace kiln::solver {

// Gives large pieces their own huge pages where the kernel has some: a hash table is touched all
// over, and with small pages nearly each look-up in a large one needs two more memory accesses.
template <typename T>
class TableAllocator {
 public:
  using value_type = T;

  TableAllocator() = default;
  template <typename U>
  TableAllocator(const TableAllocator<U>&) {}  // NOLINT: allocators convert implicitly

  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    if (bytes < kLarge) return static_cast<T*>(::operator new(bytes));
    void* const place =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) throw std::bad_alloc();
    (void)::madvise(place, bytes, MADV_HUGEPAGE);  // a kernel without them: then small ones
    return static_cast<T*>(place);
  }
  void deallocate(T* place, size_t count) {
    const size_t bytes = count * sizeof(T);
    if (bytes < kLarge) {
      ::operator delete(place);
    } else {
      ::munmap(place, bytes);
    }
  }

  bool operator==(const TableAllocator&) const { return true; }
  bool operator!=(const TableAllocator&) const { return false; }

 private:
  static constexpr size_t kLarge = 4 << 20;
};

// A hash map that may hold something for each of a million vertices.
template <typename Key, typename Value, typename Hash = absl::Hash<Key>>
using LargeTable = absl::flat_hash_map<Key, Value, Hash, std::equal_to<Key>,
                                       TableAllocator<std::pair<const Key, Value>>>;

// How far ahead of its use an entry of such a table is called for, when many are used in turn.
constexpr size_t kPrefetchAhead = 12;

}  // namespace kiln::solver
