#pragma once

#include <cstddef>
#include <functional>

#include "absl/container/flat_hash_set.h"
#include "solver/internal/digest_hash.h"
#include "solver/internal/large_table.h"
#include "solver/internal/pool.h"
#include "solver/internal/vertex.h"

namespace kiln::solver {

// Owns the vertices of the shared graph and finds them by identity. An entry is a pointer alone: a
// table for a million vertices is touched all over, so it pays that it is small.
class VertexTable {
 public:
  VertexTable() = default;
  ~VertexTable() {
    for (Vertex* vertex : table_) pool_.Delete(vertex);
  }
  VertexTable(const VertexTable&) = delete;
  VertexTable& operator=(const VertexTable&) = delete;

  // Room for `more` vertices.
  void Reserve(size_t more) { table_.reserve(table_.size() + more); }
  // The vertex will be asked for soon.
  void Prefetch(const Digest& identity) { table_.prefetch(identity); }

  // Null: there is none.
  Vertex* Find(const Digest& identity) const {
    const auto it = table_.find(identity);
    return it == table_.end() ? nullptr : *it;
  }
  // One that is made has nothing but its identity.
  Vertex* FindOrMake(const Digest& identity) {
    return *table_.lazy_emplace(identity, [&](const auto& place) {
      Vertex* const vertex = pool_.New();
      vertex->identity = identity;
      place(vertex);
    });
  }
  void Erase(Vertex* vertex) {
    table_.erase(vertex->identity);
    pool_.Delete(vertex);
    if (table_.empty()) table_.clear();  // gives the memory of a large graph back
  }

  bool empty() const { return table_.empty(); }
  size_t size() const { return table_.size(); }
  auto begin() const { return table_.begin(); }
  auto end() const { return table_.end(); }

 private:
  struct Hash : DigestHash {
    using is_transparent = void;
    using DigestHash::operator();
    size_t operator()(const Vertex* vertex) const { return (*this)(vertex->identity); }
  };
  struct Same {
    using is_transparent = void;
    static const Digest& Of(const Digest& identity) { return identity; }
    static const Digest& Of(const Vertex* vertex) { return vertex->identity; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) == Of(b);
    }
  };
  Pool<Vertex> pool_;
  absl::flat_hash_set<Vertex*, Hash, Same, TableAllocator<Vertex*>> table_;
};

}  // namespace kiln::solver
