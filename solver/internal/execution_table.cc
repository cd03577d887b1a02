#include "solver/internal/execution_table.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "solver/internal/digest_hash.h"

namespace kiln::solver {
namespace {

bool Overlap(const std::vector<store::InputKey>& a, const std::vector<store::InputKey>& b) {
  for (const store::InputKey& key : a)
    if (std::find(b.begin(), b.end(), key) != b.end()) return true;
  return false;
}

bool SameOp(const CacheMaps& a, const CacheMaps& b) {
  for (const auto& map : a)
    for (const auto& other : b)
      if (map == other || map->op_digest == other->op_digest) return true;
  return false;
}

bool Equal(const CacheMaps& maps, const InputKeys& keys, const Execution& x) {
  if (x.keys->size() != keys.size() || !SameOp(maps, x.maps)) return false;
  for (size_t i = 0; i < keys.size(); ++i)
    if (!Overlap(keys[i], (*x.keys)[i])) return false;
  return true;
}

}  // namespace

// Op digests end in what tells them apart, and the end is enough: equal hashes are compared.
uint64_t ExecutionTable::Hash(absl::string_view op_digest, uint32_t input,
                              const store::InputKey* key) {
  op_digest.remove_prefix(op_digest.size() - std::min<size_t>(op_digest.size(), 16));
  if (key == nullptr) return absl::HashOf(op_digest);
  return absl::HashOf(op_digest, input, DigestHash::Prefix(key->key), key->selector);
}

template <typename F>
void ExecutionTable::ForEachHash(const Execution& execution, F&& f) {
  const InputKeys& keys = *execution.keys;
  for (const auto& map : execution.maps) {
    if (keys.empty()) f(Hash(map->op_digest, 0, nullptr));
    for (uint32_t i = 0; i < keys.size(); ++i)
      for (const store::InputKey& key : keys[i]) f(Hash(map->op_digest, i, &key));
  }
}

const ExecutionTable::Bucket* ExecutionTable::Find(uint64_t hash) const {
  const auto it = buckets_.find(hash);
  if (it != buckets_.end()) return &it->second;
  buckets_.prefetch(hash);  // whoever does not find an execution soon adds one
  return nullptr;
}

void ExecutionTable::Add(Execution* execution) {
  ForEachHash(*execution, [&](uint64_t hash) {
    auto& list = buckets_[hash].executions;
    if (!list.empty() && list.back() == execution) return;  // a key given twice
    execution->table.push_back({hash, static_cast<uint32_t>(list.size())});
    list.push_back(execution);
  });
}

void ExecutionTable::Remove(Execution* execution) {
  for (size_t i = 0; i < execution->table.size(); ++i) {
    const auto [hash, place] = execution->table[i];
    const auto it = buckets_.find(hash);
    Bucket& bucket = it->second;
    Execution* moved = bucket.executions[place] = bucket.executions.back();
    bucket.executions.pop_back();
    if (moved != execution) {
      size_t at = i;  // most have their keys in the same order
      if (at >= moved->table.size() || moved->table[at].hash != hash) at = 0;
      while (moved->table[at].hash != hash) ++at;
      moved->table[at].place = place;
    }
    bucket.saved_gone = std::max(bucket.saved_gone, execution->save_clock);
    if (bucket.executions.empty() && bucket.saved_gone == 0) buckets_.erase(it);
  }
  execution->table.clear();
}

void ExecutionTable::Saved(const Execution& execution) {
  for (const auto& entry : execution.table) buckets_.at(entry.hash).saved = execution.save_clock;
}

Execution* ExecutionTable::Find(const CacheMaps& maps, const InputKeys& keys,
                                absl::FunctionRef<bool(const Execution&)> accept) const {
  const auto pick = [&](const Bucket* from) -> Execution* {
    if (from == nullptr) return nullptr;
    for (Execution* x : from->executions)
      if (Equal(maps, keys, *x) && accept(*x)) return x;
    return nullptr;
  };
  for (const auto& map : maps) {
    if (keys.empty()) {
      if (Execution* x = pick(Find(Hash(map->op_digest, 0, nullptr)))) return x;
      continue;
    }
    // Ops like merge have one digest for all their uses, so a common base alone may be shared by
    // very many: go by the input that fewest executions have in common with this one.
    size_t fewest = SIZE_MAX;
    uint32_t best = 0;
    for (uint32_t i = 0; i < keys.size() && fewest > 0; ++i) {
      size_t count = 0;
      for (const store::InputKey& key : keys[i])
        if (const Bucket* bucket = Find(Hash(map->op_digest, i, &key)))
          count += bucket->executions.size();
      if (count < fewest) {
        fewest = count;
        best = i;
      }
    }
    if (fewest == 0) continue;
    for (const store::InputKey& key : keys[best])
      if (Execution* x = pick(Find(Hash(map->op_digest, best, &key)))) return x;
  }
  return nullptr;
}

bool ExecutionTable::SavedSince(const CacheMaps& maps, const InputKeys& keys,
                                uint64_t clock) const {
  if (clock < forgotten_) return true;
  const auto saved = [&](uint64_t hash) {
    const Bucket* bucket = Find(hash);
    return bucket != nullptr && bucket->saved_gone > clock;
  };
  for (const auto& map : maps) {
    if (keys.empty() && saved(Hash(map->op_digest, 0, nullptr))) return true;
    bool all = !keys.empty();
    for (uint32_t i = 0; i < keys.size() && all; ++i) {
      all = std::any_of(keys[i].begin(), keys[i].end(), [&](const store::InputKey& key) {
        return saved(Hash(map->op_digest, i, &key));
      });
    }
    if (all) return true;
  }
  return false;
}

bool ExecutionTable::KeySavedSince(absl::string_view op_digest, uint32_t input,
                                   const store::InputKey& key, uint64_t clock) const {
  if (clock < forgotten_) return true;
  const Bucket* bucket = Find(Hash(op_digest, input, &key));
  return bucket != nullptr && bucket->saved > clock;
}

void ExecutionTable::ForgetSaves(uint64_t clock) {
  for (auto it = buckets_.begin(); it != buckets_.end();) {
    it->second.saved_gone = 0;
    if (it->second.executions.empty()) {
      buckets_.erase(it++);
    } else {
      ++it;
    }
  }
  if (buckets_.empty()) buckets_.clear();  // gives the memory of a large graph back
  forgotten_ = clock;
}

}  // namespace kiln::solver
